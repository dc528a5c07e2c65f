/* Where this node's packages come from: the service of its registered profile that carries updates. The files
 * are the gridnode user's, and this is root: what they say is outside bytes, no symbolic link is followed,
 * and nothing of them is ever repeated in an error. */
#pragma once

#include "base/error.h"
#include "base/inet.h"

#include <stdint.h>

struct repository {
        char host[254];   /* a plain host name */
        char service[32]; /* its name in the profile and in ways.json */
        uint16_t port;
        char *keyring;     /* ETC/repo-keyring.gpg, root's own: where root's trust begins */
        char *ways;        /* RUN/ways.json */
        char *budget;      /* RUN/budget */
        char *transfers;   /* RUN/transfers */
        char *socket;      /* RUN/control.sock */
        char *certificate; /* STATE/node.crt */
        char *root;        /* as given; NULL: the system's */
};
/* 0; -ENOENT: not registered; -EINVAL: the profile names no host for updates. */
int repository_load(const char *root, struct repository *ret, struct error *ret_error);
void repository_done(struct repository *r);
/* Of STATE/node.crt: seconds since the epoch from which it is valid; 0: not to be had. */
int64_t repository_certificate_begin(const struct repository *r);
