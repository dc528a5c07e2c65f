#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"
#include "base/timer.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define FIRST_BACKOFF_MS   1000
#define LONGEST_BACKOFF_MS 60000
#define PROGRESS_MS        100
#define RATE_MS            1000
#define MOST_WRONG         3
#define WORTHWHILE_BYTES   65536
#define POKE_MS            200
#define DNS_PATIENCE_MS    1500.0

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

static struct transfer *transfer_free(struct transfer *t)
{
        attempt_stop(t);
        lane_leave(t->engine, t->request.priority);
        resolver_forget(t->engine->resolver, t);
        sd_event_source_disable_unref(t->tick);
        sd_event_source_disable_unref(t->wait);
        sd_event_source_disable_unref(t->deadline);
        sd_event_source_disable_unref(t->dns_patience);
        file_close(&t->file);
        if (t->body_fd >= 0)
                close(t->body_fd);
        unlink_transfer(t);
        request_free(&t->request);
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
        if (state == TRANSFER_DONE && t->view.way == t->request.port)
                way_proved(t->engine);
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
        t->view.remaining_ms = -1;
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
        if (now_ms - t->last_moved_ms > POKE_MS && !t->was_poked) {
                t->was_poked = true;
                http_engine_poke(lane_http(t->engine, t->request.priority)); /* may end the transfer */
        } else
                attempt_tick(t, now_ms); /* as may this */
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
        t->retry_after_ms = 0;
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
static void start_round(struct transfer *t)
{
        struct transfer_engine *e = t->engine;
        bool may_fall_back = e->fallback != TRANSFER_FALLBACK_NONE && e->fallback_port != t->request.port;

        t->dns_patience = sd_event_source_disable_unref(t->dns_patience);
        t->tried_count = 0;
        t->attempt_bytes = 0;
        if (e->proxy)
                t->round = (struct way_round){.list = {{.port = t->request.port}, {.port = e->fallback_port}},
                        .count = may_fall_back ? 2 : 1};
        else
                way_plan(e, t->request.port, t->addresses, t->address_count, t->others, t->other_count,
                        &t->round);
        if (t->round.count > 0)
                attempt_next(t);
        else {
                t->view.attempts++;
                retry(t, false);
        }
}

/* Both names are there, or not to be had. */
static void name_came(struct transfer *t)
{
        if (--t->asked == 0)
                start_round(t);
}

static void on_fallback_resolved(
        int result, const struct inet_addr *addresses, size_t count, const struct error *e, void *userdata)
{
        struct transfer *t = userdata;

        (void)e;
        if (result == 0) {
                memcpy(t->others, addresses, count * sizeof(*addresses));
                t->other_count = count;
        }
        name_came(t);
}

static void on_resolved(
        int result, const struct inet_addr *addresses, size_t count, const struct error *e, void *userdata)
{
        struct transfer *t = userdata;

        t->dns_text[0] = '\0';
        if (result == 0) {
                memcpy(t->addresses, addresses, count * sizeof(*addresses));
                t->address_count = count;
        } else {
                transfer_fail(t, "dns", e->number, e->code, false, "%s", e->text);
                str_copy(t->dns_text, sizeof(t->dns_text), e->text);
        }
        name_came(t);
}

/* The servers are silent: with what is known, if anything is. */
static int on_dns_patience(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct transfer *t = userdata;
        struct transfer_engine *e = t->engine;
        struct inet_addr kept[RESOLVER_MAX_ADDRESSES];
        size_t count = resolver_kept(e->resolver, t->request.host, kept, ELEMENTS(kept));

        (void)source, (void)usec;
        if (count) {
                memcpy(t->addresses, kept, count * sizeof(*kept));
                t->address_count = count;
        }
        if (t->address_count + t->other_count + e->known_count == 0)
                return 0;
        resolver_forget(e->resolver, t);
        t->asked = 0;
        if (t->address_count == 0)
                snprintf(t->dns_text, sizeof(t->dns_text), "no DNS server has answered for %s within %.1f s",
                        t->request.host, DNS_PATIENCE_MS / 1000);
        start_round(t);
        return 0;
}

static void ask_names(struct transfer *t)
{
        struct transfer_engine *e = t->engine;

        t->asked = 1;
        if (resolver_ask(e->resolver, t->request.host, on_resolved, t) < 0) {
                transfer_fail(
                        t, "dns", EINVAL, "dns.bad-name", true, "'%s' is no host name", t->request.host);
                end(t, TRANSFER_FAILED);
                return;
        }
        if (e->fallback != TRANSFER_FALLBACK_NONE && e->fallback_host &&
                resolver_ask(e->resolver, e->fallback_host, on_fallback_resolved, t) == 0)
                t->asked++;
        timer_arm(e->event, &t->dns_patience, DNS_PATIENCE_MS, on_dns_patience, t);
}

static void begin_round(struct transfer *t)
{
        t->wait = sd_event_source_disable_unref(t->wait);
        t->view.state = TRANSFER_CONNECTING;
        resolver_forget(t->engine->resolver, t);
        if (t->engine->proxy)
                start_round(t);
        else
                ask_names(t);
}

static int on_deadline(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct transfer *t = userdata;

        (void)source, (void)usec;
        if (t->file.is_finishing)
                return 0; /* it is all there */
        t->rounds++;
        if (t->view.failure.number)
                round_tell(t);
        if (!t->view.failure.number)
                transfer_fail(t, "http", ETIMEDOUT, "transfer.deadline", false,
                        "%s of %s was not fetched within %.0f s, but %llu bytes of it", t->request.path,
                        t->request.host, t->request.deadline_ms / 1000, (unsigned long long)t->view.bytes);
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

static void revive(struct transfer *t, double now_ms)
{
        t->alive_ms = now_ms;
        t->alive_bytes = 0;
}

void transfer_held(struct transfer *t, double now_ms)
{
        t->last_moved_ms = now_ms;
        t->was_held = true;
        revive(t, now_ms);
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
                revive(t, now_ms);
}

void transfer_moved(struct transfer *t, size_t bytes, bool is_wanted)
{
        double now_ms = engine_now_ms();

        t->last_moved_ms = now_ms;
        t->was_poked = false;
        t->view.fetched += bytes;
        t->minute_bytes += bytes;
        t->attempt_bytes += bytes;
        t->rate_bytes += bytes;
        if (is_wanted) {
                count_alive(t, bytes, now_ms);
                t->rounds = 0;
                t->whole.number = 0;
        }
        lane_moved(t->engine, t->request.priority, bytes, now_ms);
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

static bool is_over(const struct transfer *t, bool is_busy)
{
        double now_ms = engine_now_ms();

        return is_exhausted(t) || transfer_has_no_way(t, now_ms) ||
               (is_busy && transfer_has_no_way(t, now_ms + t->retry_after_ms));
}

static void retry(struct transfer *t, bool is_busy)
{
        bool has_others = !is_busy && t->attempt_bytes == 0 && t->round.next < t->round.count;

        if (has_others && !is_over(t, false)) {
                attempt_next(t);
                return;
        }
        t->rounds++;
        if (!is_busy)
                round_tell(t);
        if (is_over(t, is_busy))
                end(t, TRANSFER_FAILED);
        else if (is_busy)
                wait_then_retry(t, fmax(backoff_next_ms(&t->backoff, backoff_random()), t->retry_after_ms));
        else if (t->attempt_bytes > 0) {
                /* Bytes came: the way is good, and it goes on there, at once where they were worth the
                 * connection. */
                backoff_reset(&t->backoff);
                wait_then_retry(
                        t, t->attempt_bytes >= WORTHWHILE_BYTES ? 0 : FIRST_BACKOFF_MS * backoff_random());
        } else
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

int transfer_start(struct transfer_engine *e, const struct transfer_request *r,
        const struct transfer_handlers *h, struct transfer **ret, struct error *ret_error)
{
        struct transfer *t;
        int result = request_check(r, ret_error);

        if (result < 0)
                return result;
        t = xcalloc(1, sizeof(*t));
        t->engine = e;
        t->handlers = *h;
        t->body_fd = -1;
        t->backoff = (struct backoff)BACKOFF_INIT(FIRST_BACKOFF_MS, LONGEST_BACKOFF_MS, 0);
        t->view.remaining_ms = t->view.next_attempt_ms = -1;
        t->alive_ms = engine_now_ms();
        request_copy(&t->request, r);
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
        result = request_open(t, ret_error);
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
