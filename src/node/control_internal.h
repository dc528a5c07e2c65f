/* What both ends of the control socket share. */
#pragma once

#include "base/error.h"

#include <sys/un.h>

#define CONTROL_LINE_MAX       4096 /* bytes of a request with its newline */
#define CONTROL_EVENTS_DEFAULT 50
#define CONTROL_EVENTS_MAX     1000

/* The address of a socket at `path`. One whose path is longer than an address holds (108 bytes, unix(7)) is
 * reached by way of its folder's descriptor, which stays open as long as the address is used. */
struct control_place {
        char *path;
        struct sockaddr_un address;
        int folder;
};
int control_place_open(const char *path, struct control_place *ret, struct error *ret_error);
void control_place_done(struct control_place *p);
