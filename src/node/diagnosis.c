#include "node/diagnosis.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "diagnose/plan.h"
#include "net/netlink.h"
#include "node/configuration.h"
#include "probe/capture.h"
#include "probe/probe.h"

#include <errno.h>
#include <net/if_arp.h>
#include <string.h>
#include <sys/epoll.h>

#define BUDGET_MS      5000.0
#define BUDGET_REST_MS 25.0 /* kept for concluding and writing */
#define TICK_MS        25.0 /* how often the plan looks at the time alone */

struct run {
        const struct diagnosis_options *options;
        struct report *report;
        struct probe_context context;
        struct probe **pending;
        size_t pending_count, pending_allocated;
        double budget_ms;
        bool dirty;   /* a result came since the plan was asked */
        bool stopped; /* stop_fd became readable */
};

DEFINE_CLEANUP(struct netlink *, netlink_close);

/* ---- where from ---- */

static bool interface_of_address(struct netlink *n, const struct inet_addr *a, char ret[IFNAMSIZ])
{
        _cleanup_free_ struct netlink_address *addresses = NULL;
        _cleanup_free_ struct netlink_link *links = NULL;
        size_t address_count, link_count;

        if (netlink_list_addresses(n, 0, a->family, &addresses, &address_count) < 0 ||
                netlink_list_links(n, &links, &link_count) < 0)
                return false;
        for (size_t i = 0; i < address_count; i++)
                for (size_t k = 0; k < link_count; k++)
                        if (inet_addr_equal(&addresses[i].address.address, a) &&
                                addresses[i].ifindex == links[k].ifindex) {
                                str_copy(ret, IFNAMSIZ, links[k].name);
                                return true;
                        }
        return false;
}

static void choose_interface(
        struct run *r, struct netlink *n, const struct netlink_route *standard, char ret[IFNAMSIZ])
{
        const struct diagnosis_options *o = r->options;

        if (o->interface)
                str_copy(ret, IFNAMSIZ, o->interface);
        else if (inet_addr_is_set(&o->source) && interface_of_address(n, &o->source, ret))
                return;
        else if (o->site->wan.interface[0])
                str_copy(ret, IFNAMSIZ, o->site->wan.interface);
        else
                str_copy(ret, IFNAMSIZ, standard->interface);
}

static struct inet_addr first_address(struct netlink *n, const char *interface)
{
        _cleanup_free_ struct netlink_address *addresses = NULL;
        struct netlink_link link;
        size_t count;

        if (netlink_find_link(n, interface, &link) == 0 &&
                netlink_list_addresses(n, link.ifindex, AF_INET, &addresses, &count) == 0)
                for (size_t i = 0; i < count; i++)
                        if (addresses[i].usable)
                                return addresses[i].address.address;
        return (struct inet_addr){0};
}

/* Addresses and links that programs make for their own use. */
static bool is_made_by_software(const char *name)
{
        static const char *const beginnings[] = {"docker", "br-", "veth", "virbr", "vnet", "tap", "tun", "wg",
                "lxc", "cni", "flannel", "dummy"};

        for (size_t i = 0; i < ELEMENTS(beginnings); i++)
                if (str_starts_with(name, beginnings[i]))
                        return true;
        return false;
}

/* Without a default route: the host's one network card, where that is what is down or has no address. Then
 * the report can say so instead of "no route". "" otherwise. */
static void guess_broken_interface(struct netlink *n, char ret[IFNAMSIZ])
{
        _cleanup_free_ struct netlink_link *links = NULL;
        const struct netlink_link *only = NULL;
        struct inet_addr address;
        size_t count, cards = 0;

        if (netlink_list_links(n, &links, &count) < 0)
                return;
        for (size_t i = 0; i < count; i++)
                if (links[i].hardware_type == ARPHRD_ETHER && !is_made_by_software(links[i].name)) {
                        only = &links[i];
                        cards++;
                }
        if (cards != 1)
                return;
        address = first_address(n, only->name);
        if (!only->up || !only->carrier || !inet_addr_is_set(&address))
                str_copy(ret, IFNAMSIZ, only->name);
}

static struct inet_addr choose_source(
        struct run *r, struct netlink *n, const struct netlink_route *standard, const char *interface)
{
        const struct diagnosis_options *o = r->options;
        struct inet_addr a;

        if (inet_addr_is_set(&o->source))
                return o->source;
        /* The site's static address belongs to the site's interface, not to another one given by hand. */
        if (o->site->wan.mode == SITE_ADDRESS_STATIC && str_equal(interface, o->site->wan.interface))
                return o->site->wan.address.address;
        if (!interface[0])
                return (struct inet_addr){0};
        if (str_equal(standard->interface, interface) && netlink_route_source(n, standard, &a) == 0)
                return a;
        return first_address(n, interface);
}

static int find_wan(struct run *r, struct configuration *ret, struct error *ret_error)
{
        _cleanup_(netlink_close_p) struct netlink *n = NULL;
        struct netlink_route standard = {0};
        int e = netlink_open(&n);

        if (e < 0)
                return error_set(ret_error, -e, "diag.netlink", "cannot ask the kernel for its routes: %s",
                        strerror(-e));
        if (netlink_default_route(n, AF_INET, &standard) < 0)
                standard = (struct netlink_route){0};
        choose_interface(r, n, &standard, ret->interface);
        if (!ret->interface[0])
                guess_broken_interface(n, ret->interface);
        ret->source = choose_source(r, n, &standard, ret->interface);
        ret->gateway = r->options->site->wan.gateway;
        if (!inet_addr_is_set(&ret->gateway) && str_equal(standard.interface, ret->interface))
                ret->gateway = standard.next_hop;
        str_copy(r->context.wan_interface, IFNAMSIZ, ret->interface);
        r->context.source = ret->source;
        str_copy(r->report->source_interface, IFNAMSIZ, ret->interface);
        inet_addr_format(&ret->source, r->report->source_address);
        return 0;
}

/* ---- what it rests on ---- */

static int open_trust(struct run *r, struct error *ret_error)
{
        const struct profile *p = r->options->profile;
        struct trust_options o = {.certificate_path = r->options->site->certificate_path,
                .key_path = r->options->site->key_path};

        if (!p || (!p->root_ca_path && !p->root_subject))
                return 0;
        o.root_ca_path = p->root_ca_path;
        o.root_subject = p->root_subject;
        return trust_new(&o, &r->context.trust, ret_error);
}

/* Watching is a help and no condition: without the right to it the run goes on and says so. */
static int open_capture(struct run *r, struct error *ret_error)
{
        struct measurement *m =
                measurement_new(&(struct probe_spec){.kind = MEASUREMENT_CAPTURE, .name = "packets"});
        struct error e = {0};
        int rc;

        m->at_ms = probe_context_now_ms(&r->context);
        if (r->options->no_capture) {
                m->outcome = OUTCOME_NOT_TESTED;
                m->reason = xstrdup("switched off");
                measurement_list_take(&r->report->measurements, m);
                return 0;
        }
        rc = capture_start(r->context.event, r->options->capture_path, &r->context.capture, &e);
        m->took_ms = probe_context_now_ms(&r->context) - m->at_ms;
        m->outcome = rc < 0 ? OUTCOME_NOT_PERMITTED : OUTCOME_OK;
        if (rc < 0) {
                m->error_number = -rc;
                m->reason = xstrdup(e.text);
        }
        measurement_list_take(&r->report->measurements, m);
        if (rc < 0 && r->options->capture_path) {
                if (ret_error)
                        *ret_error = e;
                return rc;
        }
        return 0;
}

/* ---- the loop ---- */

static void on_result(struct probe *p, struct measurement *m, void *userdata)
{
        struct run *r = userdata;

        for (size_t i = 0; i < r->pending_count; i++)
                if (r->pending[i] == p) {
                        r->pending[i] = r->pending[--r->pending_count];
                        break;
                }
        measurement_list_take(&r->report->measurements, m);
        r->dirty = true;
        if (r->options->on_progress)
                r->options->on_progress(m, r->report->measurements.count, r->pending_count,
                        probe_context_now_ms(&r->context), r->options->userdata);
}

static void start_one(struct run *r, const struct probe_spec *spec)
{
        struct probe *p = NULL;
        int e = probe_start(&r->context, spec, on_result, r, &p);

        if (e < 0) {
                struct measurement *m = measurement_new(spec);

                m->outcome = OUTCOME_NOT_TESTED;
                m->at_ms = probe_context_now_ms(&r->context);
                m->error_number = -e;
                m->reason = xasprintf("it could not be started: %s", strerror(-e));
                measurement_list_take(&r->report->measurements, m);
                r->dirty = true;
                return;
        }
        if (r->pending_count == r->pending_allocated) {
                r->pending_allocated = r->pending_allocated ? r->pending_allocated * 2 : 64;
                r->pending = xrealloc_array(r->pending, r->pending_allocated, sizeof *r->pending);
        }
        r->pending[r->pending_count++] = p;
}

/* Asks the plan, and starts what it wants. False when the run is over. */
static bool step(struct run *r)
{
        _cleanup_free_ struct plan_pending *pending = xcalloc(r->pending_count + 1, sizeof *pending);
        struct plan_output output = {0};
        struct plan_input input = {.done = &r->report->measurements,
                .pending = pending,
                .pending_count = r->pending_count,
                .now_ms = probe_context_now_ms(&r->context)};
        bool over;

        for (size_t i = 0; i < r->pending_count; i++)
                pending[i] = (struct plan_pending){probe_spec_of(r->pending[i]), probe_age_ms(r->pending[i])};
        plan_next(&input, &output);
        r->context.patience_ms = output.patience_ms;
        r->dirty = false;
        for (size_t i = 0; i < output.count; i++)
                start_one(r, &output.specs[i]);
        over = output.may_stop;
        plan_output_done(&output);
        return !over;
}

static int on_stop(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct run *r = userdata;

        (void)source;
        (void)fd;
        (void)events;
        r->stopped = true;
        return 0;
}

static void loop(struct run *r)
{
        bool is_warm = !r->context.trust;

        while (!r->stopped && step(r)) {
                double until_ms = probe_context_now_ms(&r->context) + TICK_MS;

                if (!is_warm) /* while the first packets travel */
                        trust_warm_up(r->context.trust);
                is_warm = true;
                while (!r->stopped && !r->dirty) {
                        double now_ms = probe_context_now_ms(&r->context);

                        if (until_ms > r->budget_ms)
                                until_ms = r->budget_ms;
                        if (now_ms >= until_ms)
                                break;
                        if (sd_event_run(r->context.event, (uint64_t)((until_ms - now_ms) * 1000) + 1) < 0)
                                return;
                }
                /* What came in the same moment is planned for in one go. */
                while (r->dirty && !r->stopped && sd_event_run(r->context.event, 0) > 0)
                        ;
                if (probe_context_now_ms(&r->context) >= r->budget_ms)
                        return;
        }
}

static void abandon_rest(struct run *r)
{
        const char *reason = r->stopped ? "interrupted"
                             : probe_context_now_ms(&r->context) >= r->budget_ms
                                     ? "the time was over"
                                     : "its answer was no longer needed";

        while (r->pending_count)
                probe_abandon(r->pending[r->pending_count - 1], reason);
}

static int prepare(struct run *r, struct error *ret_error)
{
        struct configuration c = {0};
        int e = find_wan(r, &c, ret_error);

        if (e < 0)
                return e;
        e = open_trust(r, ret_error);
        if (e < 0)
                return e;
        c.has_certificate = r->context.trust && trust_has_certificate(r->context.trust);
        c.certificate_problem = r->context.trust ? trust_certificate_problem(r->context.trust) : NULL;
        configuration_record(&c, r->options->site, r->options->profile, &r->report->measurements);
        return open_capture(r, ret_error);
}

static int run(struct run *r, struct error *ret_error)
{
        _cleanup_(sd_event_source_unrefp) sd_event_source *stop = NULL;
        int e = prepare(r, ret_error);

        if (e < 0)
                return e;
        if (r->options->stop_fd >= 0) {
                e = sd_event_add_io(r->context.event, &stop, r->options->stop_fd, EPOLLIN, on_stop, r);
                if (e < 0)
                        return error_set(
                                ret_error, -e, "diag.event", "cannot watch for signals: %s", strerror(-e));
        }
        loop(r);
        abandon_rest(r);
        return 0;
}

int diagnosis_run(const struct diagnosis_options *o, struct report *ret, struct error *ret_error)
{
        struct report report = {0};
        struct run r = {.options = o, .report = &report};
        int e;

        r.budget_ms = (o->budget_ms > 0 ? o->budget_ms : BUDGET_MS) - BUDGET_REST_MS;
        report.started_unix_ms = clock_unix_ms();
        report.node = xstrdup(o->site->name ? o->site->name : "");
        report.profile = xstrdup(o->profile ? o->profile->name : "");
        e = probe_context_init(&r.context);
        if (e < 0) {
                report_done(&report);
                return error_set(ret_error, -e, "diag.event", "cannot make an event loop: %s", strerror(-e));
        }
        e = run(&r, ret_error);
        if (e == 0) {
                diagnose_conclude(&report.measurements, &report.conclusion);
                report.interrupted = r.stopped;
                report.elapsed_ms = probe_context_now_ms(&r.context);
                *ret = report;
        } else {
                report_done(&report);
        }
        free(r.pending);
        capture_free(r.context.capture);
        trust_free(r.context.trust);
        probe_context_done(&r.context);
        return e;
}
