/* gridplane check: what would keep `serve` from working, before it starts. */
#pragma once

#include "plane/settings.h"

#include <jansson.h>
#include <stdbool.h>

struct finding {
        bool fatal;       /* serve would not work; else a warning */
        const char *code; /* "port.taken", "disk.full", "clock.wrong", "certificate.expiring",
                             "program.missing" … */
        char text[512];   /* what, where, why, what to do */
};
/* Findings, the caller's (free). While a gridplane of this root runs, its own ports are no finding. */
size_t preflight(const struct plane_settings *s, int64_t now_unix_ms, struct finding **ret);
