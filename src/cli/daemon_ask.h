/* The commands that speak to the running daemon. */
#pragma once

#include "cli/session.h"

#include <jansson.h>

/* RUN/control.sock below --root; the caller's. */
char *daemon_socket(const struct session *s);
/* Asks, and reports a failure: an exit status (69: no daemon runs, 77: not permitted). */
int daemon_ask(const struct session *s, json_t *request /* stolen */,
        int (*on_line)(const char *member, json_t *value, void *userdata), void *userdata);
