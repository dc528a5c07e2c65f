/* gridplane check: what would keep `serve` from working, before it starts. */
#pragma once

#include "plane/settings.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct finding {
        bool fatal; /* serve would not work; else a warning */
        /* "port.taken", "port.forbidden", "port.ephemeral", "address.missing", "disk.full", "clock.wrong",
         * "certificate.expiring", "certificate.unreadable", "program.missing", "program.version",
         * "program.module", "folder.refused", "user.unknown", "user.root", "files.limit",
         * "part.unknown", "part.unreachable", "part.refused" */
        const char *code;
        char text[512]; /* what, where, why, what to do */
};
/* Findings, the caller's (free), fatal ones first. Changes nothing on disk. While a gridplane of this root
 * runs, its own ports are no finding. Errors of gridplane.conf itself are plane_settings_load()'s. */
size_t preflight(const struct plane_settings *s, int64_t now_unix_ms, struct finding **ret);
