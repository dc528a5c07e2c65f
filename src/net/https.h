/* One small HTTPS exchange at a time with the control plane: for the verbs that register, renew and fetch the
 * configuration. Waits; for commands and short-lived children, never for a daemon's loop. */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "net/trust.h"

#include <stddef.h>

struct https_request {
        const char *method; /* GET, POST, PUT … */
        const char *host;   /* as in Host, SNI and the certificate */
        uint16_t port;
        const char *path;
        const struct inet_addr *addresses; /* tried in this order, each for its share of the time */
        size_t address_count;
        struct inet_addr source; /* unset: the kernel chooses */
        const char *device;      /* SO_BINDTODEVICE where permitted; NULL: by route */
        const char *proxy;       /* NULL: none */
        struct trust *trust;     /* the pinned root. NULL: nothing is verified (only for a root whose
                                    fingerprint is checked afterwards) */
        bool mutual;             /* offer the node's certificate */
        const char *body;        /* NULL: none; JSON */
        const char *etag;        /* If-None-Match; NULL: none */
        double timeout_ms;
        size_t maximum_bytes; /* of the answer */
};

struct https_answer {
        int status;
        char *body; /* NUL-terminated */
        size_t length;
        char *content_type, *etag; /* NULL: none */
        struct endpoint address;
};
void https_answer_done(struct https_answer *a);

/* 0 whatever the status is, or -errno with host, address, stage (tcp, tls, http) and the reason; of several
 * addresses the error of each, shortest first, as far as it fits. An answer as application/problem+json (RFC
 * 9457) is told by https_problem. */
int https_exchange(const struct https_request *r, struct https_answer *ret, struct error *ret_error);
/* For a status of 400 and above: "HOST says: TITLE: DETAIL (STATUS)"; returns -errno for the status: 401
 * -EACCES, 403 -EPERM, 404 -ENOENT, 409 -EEXIST, 410 -ESTALE, 429 and 503 -EAGAIN, else -EREMOTEIO. The
 * error's code is the problem's own `code` member where it is one of ours ([a-z.-]), else "http.STATUS". */
int https_problem(const struct https_request *r, const struct https_answer *a, struct error *ret_error);
