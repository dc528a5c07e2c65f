#include "probe/probe.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "net/http_engine.h"

#include <errno.h>
#include <string.h>
#include <time.h>

/* A connected socket that a TCP probe left for the TLS probe of the same target. */
struct kept_socket {
        struct kept_socket *next;
        struct endpoint target;
        int fd;
        double rtt_ms;
};

static uint64_t monotonic_us(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

int probe_context_init(struct probe_context *c)
{
        *c = (struct probe_context){.patience_ms = 1000};
        c->started_us = monotonic_us();
        return sd_event_new(&c->event);
}

void probe_context_done(struct probe_context *c)
{
        while (c->kept) {
                struct kept_socket *k = c->kept;

                c->kept = k->next;
                close(k->fd);
                free(k);
        }
        c->http = http_engine_free(c->http);
        probe_arp_done(c);
        c->event = sd_event_unref(c->event);
}

double probe_context_now_ms(const struct probe_context *c)
{
        return (double)(monotonic_us() - c->started_us) / 1000;
}

static const struct probe_class *class_of(enum measurement_kind kind)
{
        static const struct probe_class *const classes[] = {&probe_link_class, &probe_address_class,
                &probe_route_class, &probe_neighbour_class, &probe_arp_class, &probe_dns_class,
                &probe_tcp_class, &probe_hop_class, &probe_tls_class, &probe_http_class};

        for (size_t i = 0; i < ELEMENTS(classes); i++)
                if (classes[i]->kind == kind)
                        return classes[i];
        return NULL;
}

static void probe_free(struct probe *p)
{
        p->deferred = sd_event_source_disable_unref(p->deferred);
        measurement_free(p->result);
        free(p);
}

int probe_start(struct probe_context *c, const struct probe_spec *spec, probe_on_result on_result,
        void *userdata, struct probe **ret)
{
        const struct probe_class *class = class_of(spec->kind);
        struct probe *p;
        int r;

        if (!class)
                return -EINVAL;
        p = xcalloc(1, class->size_bytes);
        p->class = class;
        p->context = c;
        p->result = measurement_new(spec);
        p->started_ms = p->result->at_ms = probe_context_now_ms(c);
        p->on_result = on_result;
        p->userdata = userdata;
        r = class->start(p);
        if (r < 0) {
                if (!p->finished && class->stop)
                        class->stop(p);
                probe_free(p);
                return r;
        }
        if (ret)
                *ret = p;
        return 0;
}

static int on_deferred(sd_event_source *source, void *userdata)
{
        struct probe *p = userdata;
        struct measurement *m = TAKE_PTR(p->result);

        (void)source;
        p->on_result(p, m, p->userdata);
        probe_free(p);
        return 0;
}

void probe_finish(struct probe *p, enum measurement_outcome outcome)
{
        if (p->finished)
                return;
        p->finished = true;
        p->result->outcome = outcome;
        p->result->took_ms = probe_age_ms(p);
        if (p->class->stop)
                p->class->stop(p);
        /* Without the deferred call the result would be lost: an exhausted loop is as fatal as memory. */
        if (sd_event_add_defer(p->context->event, &p->deferred, on_deferred, p) < 0)
                abort();
}

void probe_finish_errno(struct probe *p, enum measurement_outcome outcome, int error_number)
{
        if (p->finished)
                return;
        p->result->error_number = error_number;
        probe_finish(p, outcome);
}

void probe_abandon(struct probe *p, const char *reason)
{
        if (!p->finished) {
                if (p->class->snapshot)
                        p->class->snapshot(p);
                if (!p->result->reason)
                        p->result->reason = xstrdup(reason);
                probe_finish(p, OUTCOME_NOT_TESTED);
        }
        p->deferred = sd_event_source_disable_unref(p->deferred);
        on_deferred(NULL, p);
}

const struct probe_spec *probe_spec_of(const struct probe *p)
{
        return &p->result->spec;
}

double probe_age_ms(const struct probe *p)
{
        return probe_context_now_ms(p->context) - p->started_ms;
}

int probe_timer(struct probe *p, sd_event_source **source, double delay_ms, sd_event_time_handler_t callback)
{
        uint64_t due_us = monotonic_us() + (uint64_t)(delay_ms > 0 ? delay_ms * 1000 : 0);
        int r;

        if (!*source)
                return sd_event_add_time(
                        p->context->event, source, CLOCK_MONOTONIC, due_us, 500, callback, p);
        r = sd_event_source_set_time(*source, due_us);
        return r < 0 ? r : sd_event_source_set_enabled(*source, SD_EVENT_ONESHOT);
}

void probe_keep_socket(struct probe_context *c, const struct probe_spec *spec, int fd, double rtt_ms)
{
        struct kept_socket *k = xcalloc(1, sizeof *k);

        *k = (struct kept_socket){.next = c->kept, .target = spec->target, .fd = fd, .rtt_ms = rtt_ms};
        c->kept = k;
}

int probe_take_socket(struct probe_context *c, const struct probe_spec *spec, double *ret_rtt_ms)
{
        if (spec->interface[0] || spec->mss || spec->purpose != PURPOSE_SERVICE)
                return -1;
        for (struct kept_socket **at = &c->kept; *at; at = &(*at)->next) {
                struct kept_socket *k = *at;
                int fd = k->fd;

                if (!endpoint_equal(&k->target, &spec->target))
                        continue;
                *ret_rtt_ms = k->rtt_ms;
                *at = k->next;
                free(k);
                return fd;
        }
        return -1;
}
