/* What the files of the transfer engine share; nobody else includes it. transfer.c: the life of a transfer.
 * transfer_way.c: which address and port next. transfer_attempt.c: one request of libcurl. transfer_file.c:
 * partial data and their hash. transfer_sync.c: fsync beside the loop. */
#pragma once

#include "net/transfer.h"

#include "base/backoff.h"
#include "net/http_engine.h"
#include "net/https_failure.h"

#include <curl/curl.h>
#include <openssl/evp.h>

#define MAX_CANDIDATES  (2 * RESOLVER_MAX_ADDRESSES)
#define TICK_MS         250.0
#define TCP_PATIENCE_MS 3000.0
#define TLS_PATIENCE_MS 10000.0

/* ---- fsync in a thread: one that takes long must not stop the loop (transfer_sync.c) ---- */

struct sync; /* opaque */
struct transfer_file;
int sync_new(sd_event *event, struct sync **ret);
struct sync *sync_free(struct sync *s); /* waits for what is under way; no callback */
/* Has the descriptor's data written (fdatasync(2) of a duplicate). `on_done` gets 0 or -errno; never called
 * from within. One of an owner at a time. 0 or -errno. */
int sync_start(struct sync *s, int fd, void (*on_done)(int result, void *userdata), void *userdata);
void sync_forget(struct sync *s, void *userdata);

/* ---- partial data (transfer_file.c) ---- */

struct transfer_file {
        const char *partial, *final, *validator_path; /* of the request */
        struct sync *sync;
        sd_event *event;
        int fd;
        uint64_t length; /* bytes that are there */
        uint64_t hashed; /* of them, in `digest` */
        uint64_t syncing, synced;
        bool is_syncing;
        char *etag, *last_modified; /* of what is there; NULL: not known */
        EVP_MD_CTX *digest;         /* NULL: no hash is wanted */
        sd_event_source *catch_up;
        void (*on_finished)(int result, const char *sha256, void *userdata);
        void *userdata;
        bool is_finishing;
        struct error error;
};
/* Opens or makes it, and takes its lock. What a power cut may have left unwritten at its end is cut off. */
int file_open(struct transfer_file *f, mode_t mode, bool with_hash, struct error *ret_error);
void file_close(struct transfer_file *f);
int file_append(struct transfer_file *f, const void *data, size_t length, struct error *ret_error);
/* The disk does not keep up: more would be lost by a power cut than is cut off then. */
bool file_is_behind(const struct transfer_file *f);
int file_restart(struct transfer_file *f, struct error *ret_error); /* from byte 0 */
/* What vouches for the part that is there; texts are copied. NULL: nothing does. */
void file_set_validator(struct transfer_file *f, const char *etag, const char *last_modified);
/* Hash and fsync to their end, then on_finished, later; then file_commit. */
void file_finish(struct transfer_file *f, void (*on_finished)(int result, const char *sha256, void *userdata),
        void *userdata);
int file_commit(struct transfer_file *f, struct error *ret_error); /* renames, where there is a final path */

/* ---- the ways (transfer_way.c) ---- */

struct way_round { /* the endpoints of one round of attempts, in order */
        struct endpoint list[MAX_CANDIDATES];
        size_t count, next;
};
/* Fills the round from what was resolved. */
void way_plan(struct transfer_engine *e, uint16_t port, const struct inet_addr *addresses, size_t count,
        const struct inet_addr *others, size_t other_count, struct way_round *ret);
/* An answer came. By the fallback: whether the port of the requests answers again is tried from then on, soon
 * and then each TRANSFER_RETURN_MS. */
void way_worked(struct transfer_engine *e, const char *host, uint16_t port, const struct endpoint *to);
void way_failed(struct transfer_engine *e, const struct endpoint *to);
bool way_is_fallback(const struct transfer_engine *e, uint16_t port, const struct endpoint *to);
void way_try_return_now(struct transfer_engine *e); /* somebody says that the port is open */
void way_stop(struct transfer_engine *e);
/* What the daemon says of the service's failure; NULL: nothing. */
const struct way_view *way_cause(const struct transfer_engine *e);

/* ---- one request (transfer_attempt.c) ---- */

enum outcome {
        OUTCOME_WHOLE,     /* all bytes are there */
        OUTCOME_UNCHANGED, /* 304 */
        OUTCOME_WAY,       /* the way failed: another address may do */
        OUTCOME_BUSY,      /* the server asks for patience */
        OUTCOME_WRONG,     /* what came is not what was asked for: from byte 0 again */
        OUTCOME_FINAL,     /* trying again mends nothing */
};
struct attempt {
        struct transfer_engine *engine;
        struct transfer *transfer; /* NULL: the return's */
        const char *host;          /* that its certificate must have */
        bool mutual;
        CURL *easy;
        struct curl_slist *headers, *connect_to;
        struct endpoint to;
        struct https_failure failure;
        enum https_stage reached;
        char error_text[CURL_ERROR_SIZE];
        int fd;          /* of the connection while it is being made, -1 */
        uint64_t limit;  /* the budget's when it began */
        uint64_t offset; /* of the first byte that was asked for */
        uint64_t got;    /* bytes of the body */
        double began_ms;
        bool has_begun;  /* the body's first byte was looked at */
        bool is_refusal; /* a status that is no success: its body is nothing of ours */
        int status;
        double retry_after_ms;
};
int attempt_start(struct transfer *t, const struct endpoint *to);
void attempt_stop(struct transfer *t); /* without a result */
/* Whether it takes too long where it is; fails it then. */
void attempt_tick(struct transfer *t, double now_ms);

/* Sets up a handle that speaks TLS with the pinned root to one endpoint: for attempts, and for the return.
 * `a` is told how far it came and why it failed. */
void attempt_dial(struct attempt *a, struct transfer_engine *e, const char *host, uint16_t port,
        const char *path, bool mutual);
void attempt_undial(struct attempt *a); /* frees the handle */

/* ---- a transfer (transfer.c) ---- */

struct transfer {
        struct transfer_engine *engine;
        struct transfer *previous, *next;
        struct transfer_request request; /* its texts are copies */
        struct transfer_handlers handlers;
        struct transfer_view view;
        struct transfer_file file;
        struct way_round round;
        struct backoff backoff;
        struct attempt *attempt; /* NULL: none */
        struct inet_addr addresses[RESOLVER_MAX_ADDRESSES];
        size_t address_count;
        sd_event_source *tick, *wait, *deadline;
        double credit; /* of the budget: taken and not used yet; below 0: used and not taken yet */
        /* Until when bytes moved, of any attempt, at the rate that is asked for at least; those that do not
         * make up for the time since. */
        double alive_ms;
        uint64_t alive_bytes;
        double last_moved_ms, last_progress_ms, minute_began_ms, rate_at_ms;
        uint64_t minute_bytes, rate_bytes, attempt_bytes;
        bool was_held;
        double retry_after_ms; /* of the last attempt; 0: not told */
        unsigned wrong;        /* hashes and sizes in a row */
        char *body;            /* answer_maximum */
        size_t body_length;
        char etag[128], last_modified[64], content_type[128], location[512], range[64];
        int64_t last_modified_unix;
        char sha256[65];
        int body_fd; /* what is sent */
        uint64_t sent;
};
/* Called by the attempt, never from within attempt_start. */
void transfer_attempt_ended(struct transfer *t, enum outcome o);
void transfer_moved(struct transfer *t, size_t bytes, bool is_wanted); /* a refusal's body is not */
void transfer_alive(struct transfer *t, double now_ms);
bool transfer_has_no_way(const struct transfer *t, double now_ms); /* for as long as is allowed */
void transfer_begun(struct transfer *t);                           /* the body begins */
void transfer_fail(struct transfer *t, const char *stage, int number, const char *code, bool is_permanent,
        const char *format, ...) __attribute__((format(printf, 6, 7)));
void transfer_try_now(struct transfer *t); /* when it waits */

struct transfer_engine {
        sd_event *event;
        struct http_engine *http;
        struct sync *sync;
        struct ways_watch *watch;
        struct ways ways;
        bool has_ways;
        struct resolver *resolver;
        struct trust *trust;
        struct budget *budget;
        char *service, *device, *proxy, *fallback_host, *ways_path;
        struct inet_addr source, *known;
        size_t known_count;
        enum transfer_fallback fallback;
        uint16_t fallback_port;
        struct transfer *transfers;
        bool on_fallback;
        struct inet_addr good; /* the address that worked last */
        struct {               /* whether the port of the requests answers again */
                char *host;
                uint16_t port;
                sd_event_source *timer;
                struct attempt attempt; /* without a transfer */
                size_t next;
        } back;
};
double engine_now_ms(void); /* CLOCK_BOOTTIME: a suspended machine's time counts */
