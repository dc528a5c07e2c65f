/* The daemon's end of the helper, in its event loop. */
#pragma once

#include "helper/protocol.h"

#include <systemd/sd-event.h>

struct helper_client; /* opaque */

/* Either connects to a helper's socket (systemd starts it), or, with `socket_path` NULL, starts `program` as
 * the supervisor (supervisor.h), which starts a helper (with `root`, NULL: the system's), and another one
 * when that has ended: to be called before rights are dropped. 0 or -errno. */
int helper_client_new(sd_event *event, const char *socket_path, const char *program, const char *root,
        struct helper_client **ret, struct error *ret_error);
struct helper_client *helper_client_free(struct helper_client *c); /* on_answer is not called any more */
/* Asks; requests are answered in order. `on_answer` gets 0 or -errno with the error; a helper that ends
 * without an answer gives -EPIPE, one that does not answer in 10 s -ETIMEDOUT. What is asked while there is
 * none waits as long for the next one; -EPIPE when nobody will start one. Never called from within. */
typedef void (*helper_on_answer)(int result, const struct error *e, void *userdata);
int helper_client_ask(
        struct helper_client *c, const struct helper_request *r, helper_on_answer on_answer, void *userdata);
