/* What the files of the transfer engine share; nobody else includes it. transfer.c: the life of a transfer.
 * transfer_request.c: what was asked. transfer_failure.c: what failures say. transfer_way.c: which address
 * and port next. transfer_lane.c: connections by priority, and the budget. transfer_attempt.c: one request of
 * libcurl. transfer_answer.c: what came of it. transfer_file.c: partial data and their hash. transfer_sync.c:
 * fsync beside the loop. */
#pragma once

#include "net/transfer.h"

#include "base/backoff.h"
#include "net/http_engine.h"
#include "net/https_failure.h"

#include <curl/curl.h>
#include <openssl/evp.h>

#define MAX_CANDIDATES  (2 * RESOLVER_MAX_ADDRESSES)
#define TICK_MS         250.0
#define MAX_BAD         16
#define TCP_PATIENCE_MS 3000.0
/* Of the first round, while there are others to try: a SYN that was lost is sent again after 1 s. */
#define FIRST_TCP_PATIENCE_MS 1500.0
#define TLS_PATIENCE_MS       10000.0

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
/* It comes last for a while; `who` found out, and what becomes of it is its own. */
void way_failed(struct transfer_engine *e, const struct endpoint *to, const struct transfer *who);
void way_proved(struct transfer_engine *e); /* a whole file came by the port of the requests */
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

/* ---- connections by priority (transfer_lane.c) ---- */

struct lane {
        struct transfer_engine *engine;
        enum budget_class priority;
        struct http_engine *http; /* NULL: not needed yet */
        double credit;            /* of the budget: taken and not used yet; below 0: used and not taken yet */
};
struct http_engine *lane_http(struct transfer_engine *e, enum budget_class c); /* NULL: it does not start */
void lane_moved(struct transfer_engine *e, enum budget_class c, size_t bytes, double now_ms);
void lane_leave(struct transfer_engine *e, enum budget_class c); /* the last one gives the credit back */
void lanes_free(struct transfer_engine *e);

/* ---- a transfer (transfer.c) ---- */

#define MAX_TRIED 8
struct tried { /* of a round: what failed, and how */
        struct endpoint to;
        char stage[8], reason[256];
        bool is_told;
};

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
        struct tried tried[MAX_TRIED];
        size_t tried_count;
        struct transfer_failure whole; /* what the last one of those said that was tried to its end */
        unsigned rounds;               /* that ended without a byte, since one came */
        char dns_text[200];            /* why the name could not be looked up; "": it could */
        struct inet_addr addresses[RESOLVER_MAX_ADDRESSES];
        size_t address_count;
        sd_event_source *tick, *wait, *deadline;
        sd_event_source *dns_patience;
        struct inet_addr others[RESOLVER_MAX_ADDRESSES]; /* of the fallback's host */
        size_t other_count;
        unsigned asked; /* names that are being looked up */
        bool is_anew;   /* the next attempt makes a connection of its own */
        /* Until when bytes moved, of any attempt, at the rate that is asked for at least; those that do not
         * make up for the time since. */
        double alive_ms;
        uint64_t alive_bytes;
        double last_moved_ms, last_progress_ms, minute_began_ms, rate_at_ms;
        uint64_t minute_bytes, rate_bytes, attempt_bytes;
        bool was_held, was_poked;
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
void transfer_held(struct transfer *t, double now_ms);                 /* by the budget or the disk */
bool transfer_has_no_way(const struct transfer *t, double now_ms);     /* for as long as is allowed */
void transfer_begun(struct transfer *t);                               /* the body begins */
void transfer_fail(struct transfer *t, const char *stage, int number, const char *code, bool is_permanent,
        const char *format, ...) __attribute__((format(printf, 6, 7)));
void transfer_try_now(struct transfer *t); /* when it waits */

/* ---- what is asked (transfer_request.c) ---- */

int request_check(const struct transfer_request *r, struct error *ret_error);
void request_copy(struct transfer_request *to, const struct transfer_request *from);
int request_open(struct transfer *t, struct error *ret_error); /* its files */
void request_free(struct transfer_request *r);

/* ---- what failures say (transfer_failure.c; transfer_fail is there, too) ---- */

void round_note(
        struct transfer *t, const char *stage, const char *reason); /* the attempt failed by the way */
void round_tell(struct transfer *t); /* the round is over: one sentence of all of it */

/* ---- what comes (transfer_answer.c) ---- */

size_t answer_take_body(char *data, size_t size, size_t count, void *userdata);
size_t answer_give_body(char *buffer, size_t size, size_t count, void *userdata);
enum outcome answer_judge(struct attempt *a, CURLcode code);
/* "bytes FIRST-LAST/SIZE", and of a refusal an asterisk in place of the range (RFC 9110, 14.4): *ret_first is
 * the size then. 0 or -EINVAL. */
int content_range_parse(const char *s, uint64_t *ret_first, uint64_t *ret_size);

struct transfer_engine {
        sd_event *event;
        struct lane lanes[BUDGET_CLASSES];
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
        struct {
                struct endpoint to;
                double until_ms;
        } bad[MAX_BAD];
        size_t next_bad;
        int64_t opened_unix_ms; /* the port was seen open: what the daemon wrote before is no news */
        struct {                /* whether the port of the requests answers again */
                char *host;
                uint16_t port;
                sd_event_source *timer;
                struct attempt attempt; /* without a transfer */
                size_t next;
                double delay_ms; /* before it is tried; longer each time the return was of no use */
        } back;
};
double engine_now_ms(void); /* CLOCK_BOOTTIME: a suspended machine's time counts */
