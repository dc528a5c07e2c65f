#include "base/cleanup.h"
#include "probe/probe.h"
#include "probe/syn.h"

/* Connects to one address and port, with several SYNs early rather than one and the kernel's back-off. */

static double due_ms(unsigned count)
{
        static const double early_ms[] = {0, 100, 250, 450, 700};
        const unsigned last = ELEMENTS(early_ms) - 1;

        return count <= last ? early_ms[count] : early_ms[last] + 400.0 * (count - last);
}

static double patience_ms(const struct probe *p)
{
        return p->context->patience_ms;
}

static bool is_worth_keeping(const struct probe_spec *s)
{
        return s->purpose == PURPOSE_SERVICE && !s->interface[0] && s->mss == 0 && s->tls != SERVICE_TLS_NONE;
}

static void on_answer(struct probe *p, struct syn_try *settled)
{
        syn_burst_describe((struct syn_burst *)p, settled);
        if (settled && settled->is_usable && is_worth_keeping(probe_spec_of(p))) {
                settled->io = sd_event_source_disable_unref(settled->io);
                probe_keep_socket(p->context, probe_spec_of(p), TAKE_FD(settled->fd), settled->rtt_ms);
        }
        probe_finish(p, syn_try_outcome(settled));
}

static int start(struct probe *p)
{
        struct syn_burst *b = (struct syn_burst *)p;

        b->due_ms = due_ms;
        b->patience_ms = patience_ms;
        b->on_answer = on_answer;
        return syn_burst_start(b);
}

static void snapshot(struct probe *p)
{
        syn_burst_describe((struct syn_burst *)p, NULL);
}

static void stop(struct probe *p)
{
        syn_burst_stop((struct syn_burst *)p);
}

const struct probe_class probe_tcp_class = {.kind = MEASUREMENT_TCP,
        .size_bytes = sizeof(struct syn_burst),
        .start = start,
        .snapshot = snapshot,
        .stop = stop};
