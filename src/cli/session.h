/* One invocation of a command: what was asked, and what the command table says must be there first. */
#pragma once

#include "cli/command.h"
#include "cli/writer.h"
#include "net/profile.h"
#include "net/site.h"
#include "node/measure.h"

#include <net/if.h>

struct session {
        const struct command *command;
        struct settings settings;
        char **arguments;
        int argument_count;
        struct site *site;       /* with NEEDS_SITE */
        struct profile *profile; /* with NEEDS_PROFILE, NULL when none is named */
        int stop_fd;
};

/* Loads what the command's preconditions ask for. An exit status: EXIT_SUCCESS, or after its message
 * EX_CONFIG. */
int session_prepare(struct session *s);
void session_done(struct session *s);

/* "gridnode COMMAND: …" on standard error, with the hint for usage errors; returns the exit status given. */
int session_fail(const struct session *s, int status, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
int session_usage_error(const struct session *s, const char *format, ...)
        __attribute__((format(printf, 2, 3)));

/* The measuring side of a hand tool, from the options and the site. An exit status. */
int session_measure(struct session *s, const struct trust_options *trust, struct measure **ret);
/* A writer whose text goes out with each writer_flush(); JSON is one document, at the end. */
struct writer *session_writer(const struct session *s);
/* Writes the tree, or what a stream has not written of it yet, as the options ask and gives `status`, or 128
 * + signal when a signal ended the run. */
int session_write(const struct session *s, struct writer *w, int status);
/* The WAN's interface: --interface, else the site file's, else that of the default route; "" when there is
 * none. */
void session_wan_interface(const struct session *s, char ret[IFNAMSIZ]);
