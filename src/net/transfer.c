#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "base/timer.h"
#include "net/dial.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#define DEFAULT_STALL_MS   30000
#define FIRST_BACKOFF_MS   1000
#define LONGEST_BACKOFF_MS 60000
#define PROGRESS_MS        100
#define RATE_MS            1000
#define MOST_WRONG         3
#define MAX_HEADERS        16
#define WORTHWHILE_BYTES   65536

double engine_now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_BOOTTIME, &t);
        return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

/* ---- telling ---- */

static void tell(struct transfer *t, bool is_urgent)
{
        double now_ms = engine_now_ms();

        if (!t->handlers.on_progress || (!is_urgent && now_ms - t->last_progress_ms < PROGRESS_MS))
                return;
        t->last_progress_ms = now_ms;
        t->handlers.on_progress(t, &t->view, t->handlers.userdata);
}

/* The cause in front where the daemon knows it: what people can act on. */
static void add_cause(struct transfer *t)
{
        const struct way_view *v = way_cause(t->engine);
        struct transfer_failure *f = &t->view.failure;
        _cleanup_free_ char *own = xstrdup(f->text);

        if (!v || f->is_permanent || str_equal(f->stage, "disk") || str_equal(f->stage, "hash"))
                return;
        str_copy(f->code, sizeof(f->code), v->code);
        snprintf(f->text, sizeof(f->text), "%s (%s)", v->summary, own);
}

void transfer_fail(struct transfer *t, const char *stage, int number, const char *code, bool is_permanent,
        const char *format, ...)
{
        struct transfer_failure *f = &t->view.failure;
        int status = t->attempt ? t->attempt->status : 0;
        va_list arguments;

        *f = (struct transfer_failure){
                .number = number ? number : EIO, .http_status = status, .is_permanent = is_permanent};
        str_copy(f->stage, sizeof(f->stage), stage);
        if (code)
                str_copy(f->code, sizeof(f->code), code);
        else
                snprintf(f->code, sizeof(f->code), "http.%d", status);
        if (t->attempt)
                f->address = t->attempt->to;
        va_start(arguments, format);
        vsnprintf(f->text, sizeof(f->text), format, arguments);
        va_end(arguments);
        if (!status)
                add_cause(t);
}

/* ---- the end ---- */

static void unlink_transfer(struct transfer *t)
{
        if (t->previous)
                t->previous->next = t->next;
        else
                t->engine->transfers = t->next;
        if (t->next)
                t->next->previous = t->previous;
}

static void free_request(struct transfer_request *r)
{
        free((char *)r->method);
        free((char *)r->host);
        free((char *)r->path);
        for (size_t i = 0; r->headers && r->headers[i]; i++)
                free((char *)r->headers[i]);
        free((void *)r->headers);
        free((char *)r->path_partial);
        free((char *)r->path_final);
        free((char *)r->path_validator);
        free((char *)r->sha256);
        free((char *)r->body_path);
}

static struct transfer *transfer_free(struct transfer *t)
{
        attempt_stop(t);
        if (t->engine->budget && t->credit > 0)
                budget_give_back(t->engine->budget, (size_t)t->credit);
        resolver_forget(t->engine->resolver, t);
        sd_event_source_disable_unref(t->tick);
        sd_event_source_disable_unref(t->wait);
        sd_event_source_disable_unref(t->deadline);
        file_close(&t->file);
        if (t->body_fd >= 0)
                close(t->body_fd);
        unlink_transfer(t);
        free_request(&t->request);
        free(t->body);
        free(t);
        return NULL;
}

static void end(struct transfer *t, enum transfer_state state)
{
        struct transfer_answer a = {.http_status = t->view.failure.http_status,
                .last_modified_unix = t->last_modified_unix,
                .etag = t->etag[0] ? t->etag : NULL,
                .content_type = t->content_type[0] ? t->content_type : NULL,
                .location = t->location[0] ? t->location : NULL,
                .range = t->range[0] ? t->range : NULL,
                .body = t->body,
                .body_length = t->body_length};

        attempt_stop(t);
        str_copy(a.sha256, sizeof(a.sha256), t->sha256);
        t->view.state = state;
        t->view.next_attempt_ms = -1;
        if (state != TRANSFER_FAILED)
                t->view.failure = (struct transfer_failure){0};
        t->handlers.on_done(t, &t->view, &a, t->handlers.userdata);
        transfer_free(t);
}

/* ---- attempts ---- */

static void begin_round(struct transfer *t);
static void attempt_next(struct transfer *t);
static void retry(struct transfer *t, bool is_busy);

static int on_wait_over(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct transfer *t = userdata;

        (void)source, (void)usec;
        begin_round(t);
        return 0;
}

static void wait_then_retry(struct transfer *t, double delay_ms)
{
        t->view.state = TRANSFER_WAITING;
        t->view.next_attempt_ms = engine_now_ms() + delay_ms;
        t->view.bytes_per_second = 0;
        timer_arm(t->engine->event, &t->wait, delay_ms, on_wait_over, t);
        tell(t, true);
}

void transfer_try_now(struct transfer *t)
{
        if (t->attempt || t->file.is_finishing)
                return;
        timer_arm(t->engine->event, &t->wait, 0, on_wait_over, t);
}

static bool is_exhausted(const struct transfer *t)
{
        return t->request.maximum_attempts && t->view.attempts >= t->request.maximum_attempts;
}

static int on_tick(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct transfer *t = userdata;
        double now_ms = engine_now_ms(), passed_ms = now_ms - t->rate_at_ms;

        (void)source, (void)usec;
        if (!t->attempt)
                return 0;
        if (passed_ms >= RATE_MS) {
                double rate = (double)t->rate_bytes / passed_ms * 1000;

                t->view.bytes_per_second =
                        t->view.bytes_per_second > 0 ? t->view.bytes_per_second * 0.7 + rate * 0.3 : rate;
                t->view.remaining_ms =
                        t->view.size && t->view.bytes_per_second > 0
                                ? (double)(t->view.size - t->view.bytes) / t->view.bytes_per_second * 1000
                                : -1;
                t->rate_at_ms = now_ms;
                t->rate_bytes = 0;
                tell(t, true);
        }
        timer_arm(t->engine->event, &t->tick, TICK_MS, on_tick, t);
        attempt_tick(t, now_ms); /* may end the transfer */
        return 0;
}

static void attempt_next(struct transfer *t)
{
        const struct endpoint *to = &t->round.list[t->round.next++];
        double now_ms = engine_now_ms();

        t->view.attempts++;
        t->view.state = TRANSFER_CONNECTING;
        t->view.next_attempt_ms = -1;
        t->view.address = *to;
        t->last_moved_ms = t->minute_began_ms = t->rate_at_ms = now_ms;
        t->minute_bytes = t->rate_bytes = t->attempt_bytes = 0;
        t->was_held = false;
        t->body_length = 0;
        t->sent = 0;
        if (attempt_start(t, to) < 0) {
                transfer_fail(t, "http", ENOMEM, "http.failed", false, "libcurl does not take the request");
                wait_then_retry(t, backoff_next_ms(&t->backoff, backoff_random()));
                return;
        }
        timer_arm(t->engine->event, &t->tick, TICK_MS, on_tick, t);
        tell(t, true);
}

/* With all addresses that are known; without one, later. */
static void start_round(struct transfer *t, const struct inet_addr *others, size_t other_count)
{
        struct transfer_engine *e = t->engine;

        if (e->proxy) {
                bool may_fall_back =
                        e->fallback != TRANSFER_FALLBACK_NONE && e->fallback_port != t->request.port;

                t->round = (struct way_round){.list = {{.port = t->request.port}, {.port = e->fallback_port}},
                        .count = may_fall_back ? 2 : 1};
        } else
                way_plan(e, t->request.port, t->addresses, t->address_count, others, other_count, &t->round);
        if (t->round.count > 0)
                attempt_next(t);
        else {
                t->view.attempts++;
                retry(t, false);
        }
}

static void on_fallback_resolved(
        int result, const struct inet_addr *addresses, size_t count, const struct error *e, void *userdata)
{
        (void)e;
        start_round(userdata, addresses, result == 0 ? count : 0);
}

static void on_resolved(
        int result, const struct inet_addr *addresses, size_t count, const struct error *e, void *userdata)
{
        struct transfer *t = userdata;
        struct transfer_engine *engine = t->engine;

        if (result == 0) {
                memcpy(t->addresses, addresses, count * sizeof(*addresses));
                t->address_count = count;
        } else
                transfer_fail(t, "dns", e->number, e->code, false, "%s", e->text);
        if (engine->fallback == TRANSFER_FALLBACK_NONE || !engine->fallback_host ||
                resolver_ask(engine->resolver, engine->fallback_host, on_fallback_resolved, t) < 0)
                start_round(t, NULL, 0);
}

static void begin_round(struct transfer *t)
{
        t->wait = sd_event_source_disable_unref(t->wait);
        t->view.state = TRANSFER_CONNECTING;
        resolver_forget(t->engine->resolver, t);
        if (t->engine->proxy)
                start_round(t, NULL, 0);
        else if (resolver_ask(t->engine->resolver, t->request.host, on_resolved, t) < 0) {
                transfer_fail(
                        t, "dns", EINVAL, "dns.bad-name", true, "'%s' is no host name", t->request.host);
                end(t, TRANSFER_FAILED);
        }
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct transfer *t = userdata;

        (void)source, (void)usec;
        if (t->file.is_finishing)
                return 0; /* it is all there */
        if (!t->view.failure.number)
                transfer_fail(t, "http", ETIMEDOUT, "transfer.deadline", false,
                        "%s was not fetched within %.0f s", t->request.path, t->request.deadline_ms / 1000);
        end(t, TRANSFER_FAILED);
        return 0;
}

/* ---- what attempts tell ---- */

void transfer_begun(struct transfer *t)
{
        t->view.state = TRANSFER_MOVING;
        if (t->handlers.on_start)
                t->handlers.on_start(t, &t->view, t->handlers.userdata);
        tell(t, true);
}

void transfer_alive(struct transfer *t, double now_ms)
{
        t->alive_ms = now_ms;
        t->alive_bytes = 0;
}

bool transfer_has_no_way(const struct transfer *t, double now_ms)
{
        return t->request.no_way_ms > 0 && now_ms - t->alive_ms >= t->request.no_way_ms;
}

/* A server that lets single bytes drip does not keep a transfer alive. */
static void count_alive(struct transfer *t, size_t bytes, double now_ms)
{
        t->alive_bytes += bytes;
        if ((double)t->alive_bytes * 1000 >=
                (double)t->request.minimum_bytes_per_second * (now_ms - t->alive_ms))
                transfer_alive(t, now_ms);
}

void transfer_moved(struct transfer *t, size_t bytes, bool is_wanted)
{
        double now_ms = engine_now_ms();

        t->last_moved_ms = now_ms;
        t->view.fetched += bytes;
        t->minute_bytes += bytes;
        t->attempt_bytes += bytes;
        t->rate_bytes += bytes;
        if (is_wanted)
                count_alive(t, bytes, now_ms);
        t->credit -= (double)bytes;
        if (t->engine->budget) {
                budget_moved(t->engine->budget, bytes, now_ms);
                if (!budget_limit(t->engine->budget))
                        t->credit = 0;
        }
        tell(t, false);
}

static void on_finished(int result, const char *sha256, void *userdata)
{
        struct transfer *t = userdata;
        struct error e;

        if (result < 0) {
                transfer_fail(t, "disk", -result, t->file.error.code, true, "%s", t->file.error.text);
                end(t, TRANSFER_FAILED);
                return;
        }
        str_copy(t->sha256, sizeof(t->sha256), sha256);
        if (t->request.sha256 && t->file.digest && !str_equal(sha256, t->request.sha256)) {
                transfer_fail(t, "hash", EBADMSG, "hash.wrong", false,
                        "%s of %s has SHA-256 %s and not %s: it was changed on the way or at its place",
                        t->request.path, t->request.host, sha256, t->request.sha256);
                transfer_attempt_ended(t, OUTCOME_WRONG);
                return;
        }
        if (file_commit(&t->file, &e) < 0) {
                transfer_fail(t, "disk", e.number, e.code, true, "%s", e.text);
                end(t, TRANSFER_FAILED);
                return;
        }
        end(t, TRANSFER_DONE);
}

static void end_wrong(struct transfer *t)
{
        struct error e;

        if (t->file.fd >= 0 && file_restart(&t->file, &e) < 0) {
                transfer_fail(t, "disk", e.number, e.code, true, "%s", e.text);
                end(t, TRANSFER_FAILED);
                return;
        }
        t->view.bytes = 0;
        if (++t->wrong >= MOST_WRONG || is_exhausted(t)) {
                t->view.failure.is_permanent = true;
                end(t, TRANSFER_FAILED);
                return;
        }
        wait_then_retry(t, backoff_next_ms(&t->backoff, backoff_random()));
}

/* Not longer than there is time for: one more attempt, in the end, is to tell. */
static void wait_within(struct transfer *t, double delay_ms)
{
        double left_ms = t->request.no_way_ms - (engine_now_ms() - t->alive_ms) - TCP_PATIENCE_MS;

        if (t->request.no_way_ms > 0 && delay_ms > left_ms)
                delay_ms = fmax(left_ms, fmin(delay_ms, FIRST_BACKOFF_MS));
        wait_then_retry(t, delay_ms);
}

static void retry(struct transfer *t, bool is_busy)
{
        double now_ms = engine_now_ms();

        if (is_exhausted(t) || transfer_has_no_way(t, now_ms) ||
                (is_busy && transfer_has_no_way(t, now_ms + t->retry_after_ms))) {
                end(t, TRANSFER_FAILED);
                return;
        }
        /* Bytes came: the way is good, and it goes on there, at once where they were worth the connection. */
        if (t->attempt_bytes > 0 && !is_busy) {
                backoff_reset(&t->backoff);
                wait_then_retry(
                        t, t->attempt_bytes >= WORTHWHILE_BYTES ? 0 : FIRST_BACKOFF_MS * backoff_random());
                return;
        }
        if (!is_busy && t->round.next < t->round.count) {
                attempt_next(t);
                return;
        }
        if (is_busy)
                wait_then_retry(t, fmax(backoff_next_ms(&t->backoff, backoff_random()), t->retry_after_ms));
        else
                wait_within(t, backoff_next_ms(&t->backoff, backoff_random()));
}

void transfer_attempt_ended(struct transfer *t, enum outcome o)
{
        t->tick = sd_event_source_disable_unref(t->tick);
        switch (o) {
        case OUTCOME_WHOLE:
                if (t->file.fd >= 0)
                        file_finish(&t->file, on_finished, t);
                else
                        end(t, TRANSFER_DONE);
                return;
        case OUTCOME_UNCHANGED:
                end(t, TRANSFER_NOT_MODIFIED);
                return;
        case OUTCOME_FINAL:
                end(t, TRANSFER_FAILED);
                return;
        case OUTCOME_WRONG:
                end_wrong(t);
                return;
        case OUTCOME_WAY:
        case OUTCOME_BUSY:
                retry(t, o == OUTCOME_BUSY);
                return;
        }
}

/* ---- starting ---- */

static int check(const struct transfer_request *r, struct error *ret_error)
{
        if (!r->host || !r->path || r->path[0] != '/' || !r->port)
                return error_set(
                        ret_error, EINVAL, "transfer.bad-request", "host, port and a path are needed");
        for (const char *p = r->path; *p; p++)
                if (*p <= ' ' || *p > '~')
                        return error_set(ret_error, EINVAL, "http.bad-path", "'%.200s' is no path", r->path);
        if (r->sha256 && (strlen(r->sha256) != 64 || strspn(r->sha256, "0123456789abcdef") != 64))
                return error_set(ret_error, EINVAL, "hash.bad", "'%.70s' is no SHA-256", r->sha256);
        if (!r->path_partial && !r->body_path && !r->answer_maximum && !str_equal(r->method, "HEAD"))
                return error_set(
                        ret_error, EINVAL, "transfer.bad-request", "there is no place for the answer");
        return 0;
}

static const char *const *copy_headers(const char *const *headers)
{
        char **copy = xcalloc(MAX_HEADERS + 1, sizeof(*copy));

        for (size_t i = 0; headers && headers[i] && i < MAX_HEADERS; i++)
                copy[i] = xstrdup(headers[i]);
        return (const char *const *)copy;
}

static void copy_request(struct transfer_request *to, const struct transfer_request *from)
{
        *to = *from;
        to->method = xstrdup(from->method);
        to->host = xstrdup(from->host);
        to->path = xstrdup(from->path);
        to->headers = copy_headers(from->headers);
        to->path_partial = xstrdup(from->path_partial);
        to->path_final = xstrdup(from->path_final);
        to->path_validator = xstrdup(from->path_validator);
        to->sha256 = xstrdup(from->sha256);
        to->body_path = xstrdup(from->body_path);
        to->stall_ms = from->stall_ms > 0 ? from->stall_ms : DEFAULT_STALL_MS;
        to->mode = from->mode ? from->mode : 0644;
}

static int open_body(struct transfer *t, struct error *ret_error)
{
        struct transfer_request *r = &t->request;
        struct stat st;

        t->body_fd = open(r->body_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (t->body_fd < 0 || fstat(t->body_fd, &st) < 0)
                return error_set(ret_error, errno, "disk.failed", "%s: %s", r->body_path, strerror(errno));
        if (!S_ISREG(st.st_mode) || r->body_offset > (uint64_t)st.st_size)
                return error_set(ret_error, EINVAL, "disk.failed", "%s has no such part", r->body_path);
        if (r->body_length == 0 || r->body_length > (uint64_t)st.st_size - r->body_offset)
                r->body_length = (uint64_t)st.st_size - r->body_offset;
        t->view.size = r->body_length;
        return 0;
}

static int open_files(struct transfer *t, struct error *ret_error)
{
        struct transfer_request *r = &t->request;
        struct error e;

        if (r->body_path && open_body(t, ret_error) < 0)
                return -EINVAL;
        if (r->answer_maximum > 0) {
                t->body = xcalloc(1, r->answer_maximum + 1);
                return 0;
        }
        if (!r->path_partial)
                return 0;
        if (file_open(&t->file, r->mode, r->sha256 && !r->hash_is_callers, &e) < 0) {
                if (ret_error)
                        *ret_error = e;
                return -e.number;
        }
        /* Nothing vouches for what is there. */
        if (t->file.length > 0 && !r->sha256 && !t->file.etag && !t->file.last_modified &&
                file_restart(&t->file, ret_error) < 0)
                return -EIO;
        if (r->size && t->file.length > r->size && file_restart(&t->file, ret_error) < 0)
                return -EIO;
        t->view.bytes = t->view.resumed = t->file.length;
        t->view.size = r->size;
        return 0;
}

int transfer_start(struct transfer_engine *e, const struct transfer_request *r,
        const struct transfer_handlers *h, struct transfer **ret, struct error *ret_error)
{
        struct transfer *t;
        int result = check(r, ret_error);

        if (result < 0)
                return result;
        t = xcalloc(1, sizeof(*t));
        t->engine = e;
        t->handlers = *h;
        t->body_fd = -1;
        t->backoff = (struct backoff)BACKOFF_INIT(FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS, 0);
        t->view.remaining_ms = t->view.next_attempt_ms = -1;
        t->alive_ms = engine_now_ms();
        copy_request(&t->request, r);
        t->file = (struct transfer_file){.partial = t->request.path_partial,
                .final = t->request.path_final,
                .validator_path = t->request.path_validator,
                .sync = e->sync,
                .event = e->event,
                .fd = -1};
        t->next = e->transfers;
        if (t->next)
                t->next->previous = t;
        e->transfers = t;
        result = open_files(t, ret_error);
        if (result < 0) {
                transfer_free(t);
                return result;
        }
        if (t->request.deadline_ms > 0)
                timer_arm(e->event, &t->deadline, t->request.deadline_ms, on_deadline, t);
        timer_arm(e->event, &t->wait, 0, on_wait_over, t);
        *ret = t;
        return 0;
}

void transfer_view(const struct transfer *t, struct transfer_view *ret)
{
        *ret = t->view;
        if (t->view.next_attempt_ms >= 0)
                ret->next_attempt_ms = fmax(0, t->view.next_attempt_ms - engine_now_ms());
}

struct transfer *transfer_cancel(struct transfer *t)
{
        return t ? transfer_free(t) : NULL;
}
