/* The transfer engine: packages, image layers and log bundles, one after the other or side by side, in the
 * event loop. libcurl's multi interface moves the bytes (HTTP/2); everything about the way is ours: source
 * and device of the WAN, our resolver, the pinned root, the node's certificate, which address and which port.
 *
 * A download's bytes go into a partial file, fsynced every TRANSFER_SYNC_BYTES, and what is there is never
 * asked for again (Range, If-Range), whatever ended the attempt before: a cut connection, kill -9, a power
 * cut, another address. SHA-256 is computed as bytes come; nothing is handed on that has another one.
 *
 * Attempts fail for two kinds of reasons. What retrying may mend is retried until `deadline_ms`, with
 * exponential backoff and full jitter from 1 to 60 s and Retry-After as told (at most 1 h), at once when the
 * daemon's monitor sees the way open (ways.h) or the network changes: no connection, TLS, a cut, nothing
 * moving for `stall_ms` or slower than `minimum_bytes_per_second`, 408, 429, 5xx. What it cannot mend ends at
 * once: 400 to 499 but those, a redirect, a hash that is wrong three times, a full disk.
 *
 * The ways: every address at port 443, alternating between networks; when all of them are blocked and
 * `fallback` allows, every address at the port of the control service (the same HTTPS servers are behind it;
 * SNI and Host stay). While it goes there, 443 is tried each TRANSFER_RETURN_MS with a TLS handshake, and
 * when that works transfers go on there from the byte where they are. */
#pragma once

#include "base/error.h"
#include "base/inet.h"
#include "net/budget.h"
#include "net/resolver.h"
#include "net/trust.h"
#include "net/ways.h"

#include <systemd/sd-event.h>

#define TRANSFER_SYNC_BYTES ((size_t)8 << 20)
#define TRANSFER_RETURN_MS  30000.0

struct transfer_engine; /* opaque */
struct transfer;        /* opaque */

enum transfer_fallback { TRANSFER_FALLBACK_NONE, TRANSFER_FALLBACK_8443 };

struct transfer_engine_options {
        struct resolver *resolver; /* borrowed, as all of these */
        struct trust *trust;
        struct budget *budget;   /* NULL: no limit */
        const char *ways_path;   /* NULL: there is no daemon to tell */
        const char *service;     /* its name in ways.json, "repo" */
        struct inet_addr source; /* unset: the kernel chooses */
        const char *device;      /* NULL: by route */
        const char *proxy;       /* NULL: none */
        enum transfer_fallback fallback;
        const char *fallback_host;     /* of the control service: its addresses are tried as well; NULL */
        uint16_t fallback_port;        /* 8443 */
        const struct inet_addr *known; /* addresses that answer even when DNS is dead (profile) */
        size_t known_count;
};
int transfer_engine_new(sd_event *event, const struct transfer_engine_options *o,
        struct transfer_engine **ret, struct error *ret_error);
struct transfer_engine *transfer_engine_free(struct transfer_engine *e); /* transfers end without on_done */
void transfer_engine_network_changed(struct transfer_engine *e);         /* waiting attempts are made now */

enum transfer_state {
        TRANSFER_WAITING,    /* for its turn, a retry, the way; `failure` says why */
        TRANSFER_CONNECTING, /* name, TCP, TLS */
        TRANSFER_MOVING,
        TRANSFER_DONE,
        TRANSFER_FAILED,
        TRANSFER_NOT_MODIFIED, /* If-Modified-Since: what is there is still right */
};
/* Where an attempt or the transfer failed. */
struct transfer_failure {
        int number;    /* -errno-like: 0 none */
        char stage[8]; /* "dns", "tcp", "proxy", "tls", "http", "hash", "disk" */
        char code[48]; /* the cause's code where the daemon knows it, "http.404", "hash.wrong" … */
        struct endpoint address;
        int http_status; /* 0: none */
        bool is_permanent;
        char text[640]; /* the whole sentence; with the cause where it is known: "443 to
                           repo.grid.example is dropped after 192.0.2.1: …" */
};
struct transfer_view {
        enum transfer_state state;
        uint64_t bytes, size;    /* done so far; 0: size not known yet */
        uint64_t resumed;        /* of bytes: were there at the start */
        uint64_t fetched;        /* over the network, whatever became of it: all attempts */
        double bytes_per_second; /* over the last seconds; 0: nothing moves */
        double remaining_ms;     /* < 0: not known */
        struct endpoint address; /* the last one connected to */
        uint16_t way;            /* its port: 443, 8443; 0: none yet */
        unsigned attempts;
        double next_attempt_ms;          /* from now; < 0: none is waited for */
        struct transfer_failure failure; /* of the last attempt; number 0: none */
};

struct transfer_request {
        const char *method; /* NULL: GET. PUT and POST send `body_path` from `body_offset` */
        const char *host;
        uint16_t port;              /* 443 */
        const char *path;           /* with query, as sent */
        const char *const *headers; /* "Name: value", NULL-terminated; NULL: none */
        bool mutual;                /* offer the node's certificate */
        enum budget_class priority;
        /* A download: where it goes. Partial data are in `path_partial` itself; it is renamed to `path_final`
         * after the hash was compared (and fsynced, the folder, too). NULL path_final: it stays where it is.
         */
        const char *path_partial, *path_final;
        /* Where ETag and Last-Modified of partial data are kept, so that If-Range can be asked across a
         * restart; NULL: nowhere, and only data that `sha256` can vouch for are resumed. */
        const char *path_validator;
        mode_t mode;                 /* of a new file; 0: 0644 */
        const char *sha256;          /* hex, lower case; NULL: not known */
        bool hash_is_callers;        /* it vouches for what is resumed, but the caller compares it himself */
        uint64_t size;               /* expected; 0: not known. More than this ends the transfer */
        uint64_t maximum_bytes;      /* 0: no bound */
        int64_t modified_since_unix; /* If-Modified-Since; 0: none */
        const char *body_path;       /* PUT, POST: the file that is sent */
        uint64_t body_offset, body_length; /* length 0: to its end */
        size_t answer_maximum; /* > 0: the answer is kept in memory (view of on_done), not in a file */
        double deadline_ms;    /* of all attempts; 0: never given up */
        /* For so long, over all attempts, no byte of the file moved, or fewer than the minimum rate: it
         * fails, at once where the server asks for more patience than that. 0: never. */
        double no_way_ms;
        double stall_ms;                   /* nothing moved for so long: the attempt ends; default 30000 */
        uint64_t minimum_bytes_per_second; /* over a minute; 0: none. A budget that gives less lowers it */
        unsigned maximum_attempts;         /* 0: no bound */
};
struct transfer_answer { /* of the last attempt; borrowed in on_done */
        int http_status;
        int64_t last_modified_unix;                         /* 0: not told */
        const char *etag, *content_type, *location, *range; /* NULL: not told */
        const char *body;
        size_t body_length; /* answer_maximum */
        char sha256[65];    /* of a whole download; "" else */
};
struct transfer_handlers {
        /* Changes of state, and while bytes move at most ten times a second. May be NULL. */
        void (*on_progress)(struct transfer *t, const struct transfer_view *v, void *userdata);
        /* Headers are there and what is there of the file was decided: v->resumed, v->size. May be NULL. */
        void (*on_start)(struct transfer *t, const struct transfer_view *v, void *userdata);
        /* The end; the transfer frees itself afterwards. Never from within transfer_start. */
        void (*on_done)(struct transfer *t, const struct transfer_view *v, const struct transfer_answer *a,
                void *userdata);
        void *userdata;
};
/* Nothing of this header but transfer_view is to be called from within on_progress and on_start; the engine
 * is not to be freed from within a callback. What it needs of the request is copied. 0, or -EINVAL. */
int transfer_start(struct transfer_engine *e, const struct transfer_request *r,
        const struct transfer_handlers *h, struct transfer **ret, struct error *ret_error);
void transfer_view(const struct transfer *t, struct transfer_view *ret);
struct transfer *transfer_cancel(struct transfer *t); /* what is there stays; no on_done */
