/* libcurl's multi interface inside one sd-event loop: transfers side by side without a thread. What a
 * transfer asks and how its answer is judged is the caller's; the engine only drives it. */
#pragma once

#include <curl/curl.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct http_engine; /* opaque */

struct http_engine_handlers {
        /* The transfer is over and no longer the engine's; the handle is to be cleaned up by its owner, from
         * here if it likes. Never called from within http_engine_add. */
        void (*on_done)(CURL *easy, CURLcode code, void *userdata);
        /* The socket is ready, and libcurl is about to use it: the moment to see how the connection stands,
         * and to empty the error queue (IP_RECVERR), which epoll(7) reports until that is done. May be NULL.
         */
        void (*on_ready)(int fd, uint32_t epoll_events, void *userdata);
        void *userdata;
        int priority; /* of its events, as in sd_event_source_set_priority(3): lower comes first */
};

/* Initialises libcurl on first use. 0 or -errno. */
int http_engine_new(sd_event *event, struct http_engine **ret);
/* Transfers that are still running are taken out without a call of on_done; their handles stay their owners'.
 */
struct http_engine *http_engine_free(struct http_engine *e);
/* Asked before libcurl may use a socket: milliseconds for which it is to be left alone, so that what the peer
 * sends waits in the kernel and TCP slows it down; 0: go on. For the whole engine, since the transfers of
 * HTTP/2 share a socket. (A paused transfer would go on filling memory with what its window allows.) */
void http_engine_set_turn(struct http_engine *e, double (*on_turn)(void *userdata), void *userdata);
/* Has libcurl look at all of its connections, whether or not the kernel says that there is something. Not
 * from within a callback of libcurl; on_done may be called. */
void http_engine_poke(struct http_engine *e);
/* Starts a transfer. CURLOPT_PRIVATE is the engine's. `handlers` is copied. 0 or -errno. */
int http_engine_add(struct http_engine *e, CURL *easy, const struct http_engine_handlers *handlers);
/* Takes a transfer out before its end, without a call of on_done. Not from within a callback of libcurl. */
void http_engine_remove(struct http_engine *e, CURL *easy);
