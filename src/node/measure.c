#include "node/measure.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "net/netlink.h"
#include "probe/capture.h"

#include <errno.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/epoll.h>

DEFINE_CLEANUP(struct netlink *, netlink_close);

/* How long a result waits for those that were asked for before it. */
#define HOLD_MS 100.0

/* What was asked for in this run, in that order. */
struct turn {
        struct probe *pending; /* NULL: over */
        const struct measurement *result;
        double came_ms;
        bool is_told;
};

struct measure {
        struct probe_context context;
        char device[IFNAMSIZ];
        double budget_ms;
        struct probe_spec *queue;
        size_t queue_count;
        struct turn *turns;
        size_t turn_count, pending_count;
        measure_on_results on_results;
        void *on_results_userdata;
        struct measurement_list list;
        sd_event_source *stop_source, *budget_source;
        bool is_stopped, is_out_of_time;
};

static int on_stop(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct measure *m = userdata;

        (void)fd;
        (void)events;
        m->is_stopped = true;
        /* The descriptor stays readable: it has been heard. */
        return sd_event_source_set_enabled(source, SD_EVENT_OFF);
}

static int on_budget(sd_event_source *source, uint64_t usec, void *userdata)
{
        struct measure *m = userdata;

        (void)source;
        (void)usec;
        m->is_out_of_time = true;
        return 0;
}

static int set_up(struct measure *m, const struct measure_options *o, struct error *ret_error)
{
        int r = probe_context_init(&m->context);

        if (r < 0)
                return error_set(ret_error, -r, "event.loop", "cannot make an event loop: %s", strerror(-r));
        m->context.source = o->source;
        if (o->wan_interface)
                str_copy(m->context.wan_interface, sizeof m->context.wan_interface, o->wan_interface);
        if (o->device && if_nametoindex(o->device) == 0)
                return error_set(
                        ret_error, ENODEV, "interface.missing", "there is no interface '%s'", o->device);
        if (o->device)
                str_copy(m->device, sizeof m->device, o->device);
        if (o->stop_fd >= 0)
                r = sd_event_add_io(m->context.event, &m->stop_source, o->stop_fd, EPOLLIN, on_stop, m);
        if (r >= 0)
                r = sd_event_add_time(m->context.event, &m->budget_source, CLOCK_MONOTONIC,
                        m->context.started_us + (uint64_t)(o->budget_ms * 1000), 1000, on_budget, m);
        if (r < 0)
                return error_set(ret_error, -r, "event.loop", "cannot watch the time: %s", strerror(-r));
        if (o->trust)
                r = trust_new(o->trust, &m->context.trust, ret_error);
        if (r < 0)
                return r;
        /* Without the right there is no capture: the probes then say nothing of what was seen. */
        if (o->capture && capture_start(m->context.event, NULL, &m->context.capture, NULL) < 0)
                m->context.capture = NULL;
        return 0;
}

int measure_new(const struct measure_options *o, struct measure **ret, struct error *ret_error)
{
        struct measure *m = xcalloc(1, sizeof *m);
        int r;

        m->budget_ms = o->budget_ms;
        r = set_up(m, o, ret_error);
        if (r < 0) {
                measure_free(m);
                return r;
        }
        *ret = m;
        return 0;
}

/* Ends everything that is under way; each reports itself as not tested. */
static void abandon_all(struct measure *m, const char *reason)
{
        for (size_t i = 0; m->pending_count > 0 && i < m->turn_count; i++)
                if (m->turns[i].pending)
                        probe_abandon(m->turns[i].pending, reason);
}

struct measure *measure_free(struct measure *m)
{
        if (!m)
                return NULL;
        abandon_all(m, "the run has ended");
        sd_event_source_disable_unref(m->stop_source);
        sd_event_source_disable_unref(m->budget_source);
        m->context.capture = capture_free(m->context.capture);
        m->context.trust = trust_free(m->context.trust);
        if (m->context.event)
                probe_context_done(&m->context);
        measurement_list_done(&m->list);
        free(m->queue);
        free(m->turns);
        free(m);
        return NULL;
}

void measure_add(struct measure *m, const struct probe_spec *spec)
{
        m->queue = xrealloc_array(m->queue, m->queue_count + 1, sizeof *m->queue);
        m->queue[m->queue_count] = *spec;
        if (m->device[0] && !spec->interface[0])
                str_copy(m->queue[m->queue_count].interface, IFNAMSIZ, m->device);
        m->queue_count++;
}

static void take(struct measure *m, struct turn *t, struct measurement *result)
{
        t->pending = NULL;
        t->result = result;
        t->came_ms = probe_context_now_ms(&m->context);
        measurement_list_take(&m->list, result);
}

/* Whether silence may be that of the first device on the way rather than the target's. */
static bool may_be_the_next_hops(const struct measurement *m)
{
        switch (m->spec.kind) {
        case MEASUREMENT_HOP:
                return m->spec.ttl == 1 && m->hop_answer == HOP_SILENT && m->left_host != YES;
        case MEASUREMENT_DNS:
        case MEASUREMENT_TCP:
        case MEASUREMENT_TLS:
                return (m->outcome == OUTCOME_TIMEOUT && m->left_host != YES) ||
                       (m->outcome == OUTCOME_LOCAL_ERROR && m->error_number == EHOSTUNREACH);
        default:
                return false;
        }
}

/* What nobody answers may have been waiting here for its next hop's hardware address: the kernel's word on
 * that one belongs to the measurement. Asked at once, since it forgets. */
static void note_next_hop(const struct measure *m, struct measurement *result)
{
        _cleanup_(netlink_close_p) struct netlink *n = NULL;
        struct netlink_query q = {.destination = result->spec.target.address,
                .protocol = result->spec.kind == MEASUREMENT_DNS && result->spec.transport != TRANSPORT_TCP
                                    ? IPPROTO_UDP
                                    : IPPROTO_TCP,
                .destination_port = result->spec.target.port};
        struct netlink_neighbour neighbour;
        struct netlink_answer a;

        if (!may_be_the_next_hops(result) || netlink_open(&n) < 0)
                return;
        if (m->context.source.family == q.destination.family)
                q.source = m->context.source;
        str_copy(q.interface, sizeof q.interface, result->spec.interface);
        if (netlink_lookup(n, &q, &a) < 0 || a.error_number || !a.route.ifindex)
                return;
        if (!inet_addr_is_set(&a.route.next_hop))
                a.route.next_hop = q.destination;
        if (netlink_find_neighbour(n, a.route.ifindex, &a.route.next_hop, &neighbour) < 0)
                return;
        result->next_hop = a.route.next_hop;
        str_copy(result->route_interface, sizeof result->route_interface, a.route.interface);
        str_copy(result->neighbour_state, sizeof result->neighbour_state, neighbour.state);
}

static void on_result(struct probe *p, struct measurement *result, void *userdata)
{
        struct measure *m = userdata;
        struct turn *t = m->turns;

        /* A source that could not be bound is worth telling. */
        if (result->outcome == OUTCOME_LOCAL_ERROR && !result->source[0] &&
                m->context.source.family == result->spec.target.address.family)
                inet_addr_format(&m->context.source, result->source);
        note_next_hop(m, result);
        while (t->pending != p) /* each probe has its turn */
                t++;
        m->pending_count--;
        take(m, t, result);
}

static const char *over_reason(const struct measure *m)
{
        return m->is_stopped ? "interrupted" : m->is_out_of_time ? "the time was up" : "not needed any more";
}

static struct measurement *unstarted(struct measure *m, const struct probe_spec *spec, int r)
{
        struct measurement *result = measurement_new(spec);

        result->at_ms = probe_context_now_ms(&m->context);
        if (r < 0) {
                result->outcome = OUTCOME_LOCAL_ERROR;
                result->error_number = -r;
        } else {
                result->outcome = OUTCOME_NOT_TESTED;
                result->reason = xstrdup(over_reason(m));
        }
        return result;
}

static void start_queue(struct measure *m)
{
        if (m->queue_count == 0)
                return;
        m->turns = xrealloc_array(m->turns, m->turn_count + m->queue_count, sizeof *m->turns);
        for (size_t i = 0; i < m->queue_count; i++) {
                struct turn *t = &m->turns[m->turn_count++];
                int r = 0;

                *t = (struct turn){0};
                if (!measure_is_over(m))
                        r = probe_start(&m->context, &m->queue[i], on_result, m, &t->pending);
                if (t->pending)
                        m->pending_count++;
                else
                        take(m, t, unstarted(m, &m->queue[i], r));
        }
        m->queue_count = 0;
}

/* ---- telling ---- */

void measure_tell(struct measure *m, measure_on_results on_results, void *userdata)
{
        m->on_results = on_results;
        m->on_results_userdata = userdata;
}

/* When the result that waits longest has waited long enough; negative: none waits. */
static double hold_ends_ms(const struct measure *m)
{
        double ends_ms = -1;

        for (size_t i = 0; m->on_results && i < m->turn_count; i++)
                if (m->turns[i].result && !m->turns[i].is_told &&
                        (ends_ms < 0 || m->turns[i].came_ms + HOLD_MS < ends_ms))
                        ends_ms = m->turns[i].came_ms + HOLD_MS;
        return ends_ms;
}

static void tell(struct measure *m, bool all)
{
        _cleanup_free_ const struct measurement **due = NULL;
        double ends_ms = hold_ends_ms(m);
        size_t count = 0;

        if (ends_ms < 0)
                return;
        all |= ends_ms <= probe_context_now_ms(&m->context);
        due = xcalloc(m->turn_count, sizeof *due);
        for (size_t i = 0; i < m->turn_count && (all || m->turns[i].result); i++)
                if (m->turns[i].result && !m->turns[i].is_told) {
                        m->turns[i].is_told = true;
                        due[count++] = m->turns[i].result;
                }
        if (count > 0)
                m->on_results(due, count, m->on_results_userdata);
}

static int turn_of_loop(struct measure *m)
{
        double ends_ms = hold_ends_ms(m), left_ms = ends_ms - probe_context_now_ms(&m->context);
        int r = sd_event_run(m->context.event, ends_ms < 0   ? UINT64_MAX
                                               : left_ms < 0 ? 0
                                                             : (uint64_t)(left_ms * 1000) + 1);

        tell(m, false);
        start_queue(m);
        return r < 0 && r != -EINTR ? r : 0;
}

int measure_run(struct measure *m, bool (*is_enough)(const struct measurement_list *l, void *userdata),
        void *userdata)
{
        int r = 0;

        m->turn_count = 0;
        do {
                start_queue(m);
                while (r == 0 && m->pending_count > 0 && !measure_is_over(m) &&
                        !(is_enough && is_enough(&m->list, userdata)))
                        r = turn_of_loop(m);
                abandon_all(m, over_reason(m));
                tell(m, true);
        } while (r == 0 && m->queue_count > 0);
        return r;
}

void measure_wait(struct measure *m, double delay_ms)
{
        double end_ms = probe_context_now_ms(&m->context) + delay_ms;

        while (!measure_is_over(m)) {
                double left_ms = end_ms - probe_context_now_ms(&m->context);

                if (left_ms <= 0 || sd_event_run(m->context.event, (uint64_t)(left_ms * 1000) + 1) < 0)
                        break;
        }
}

const struct measurement_list *measure_list(const struct measure *m)
{
        return &m->list;
}

bool measure_is_over(const struct measure *m)
{
        return m->is_stopped || m->is_out_of_time;
}

bool measure_was_stopped(const struct measure *m)
{
        return m->is_stopped;
}

double measure_elapsed_ms(const struct measure *m)
{
        return probe_context_now_ms(&m->context);
}

int measure_interface_address(const char *interface, sa_family_t family, struct inet_addr *ret)
{
        _cleanup_(netlink_close_p) struct netlink *n = NULL;
        _cleanup_free_ struct netlink_address *list = NULL;
        struct netlink_link link;
        size_t count = 0;
        int r = netlink_open(&n);

        if (r == 0)
                r = netlink_find_link(n, interface, &link);
        if (r == 0)
                r = netlink_list_addresses(n, link.ifindex, family, &list, &count);
        if (r < 0)
                return r;
        for (size_t i = 0; i < count; i++)
                if (list[i].usable) {
                        *ret = list[i].address.address;
                        return 0;
                }
        return -EADDRNOTAVAIL;
}

int measure_default_wan(char ret_interface[IFNAMSIZ], struct inet_addr *ret_source)
{
        _cleanup_(netlink_close_p) struct netlink *n = NULL;
        struct netlink_route route;
        int r = netlink_open(&n);

        if (r == 0)
                r = netlink_default_route(n, AF_INET, &route);
        if (r == 0 && ret_source)
                r = netlink_route_source(n, &route, ret_source);
        if (r == 0)
                str_copy(ret_interface, IFNAMSIZ, route.interface);
        return r;
}
