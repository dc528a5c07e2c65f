/* gridnode run: puts the parts together and runs the loop until SIGTERM or SIGINT. */
#pragma once

#include "node/settings.h"

struct daemon_options {
        struct node_settings *settings;
        const char *root;           /* --root, for the children; NULL: none */
        const char *program;        /* gridnode, for its children */
        const char *helper_program; /* started as a child when this is root and there is no helper's socket */
        const char *helper_socket;  /* systemd's */
        const char *user;           /* to become after the helper was started; NULL: stays */
};
/* An exit status. */
int daemon_run(const struct daemon_options *o);
