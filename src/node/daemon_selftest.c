/* Whether this daemon is fit for its work, as far as it can tell by itself: a new version that is not is
 * taken back by the judge of updates, who asks for it with the status. */
#include "node/daemon_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "node/settings.h"

#include <errno.h>
#include <string.h>

#define AGAIN_MS   5000
#define STORE_TEST "selftest.at"

struct selftest {
        struct daemon *daemon;
        sd_event_source *timer;
        bool helper_answered, is_asking;
        struct error helper_problem;
};

static void ask_helper(struct selftest *t);

static int on_timer(sd_event_source *source, uint64_t at_us, void *userdata)
{
        (void)source;
        (void)at_us;
        ask_helper(userdata);
        return 0;
}

static void on_hello(int result, const struct error *e, void *userdata)
{
        struct selftest *t = userdata;

        t->is_asking = false;
        t->helper_answered = result == 0;
        if (result == 0)
                return;
        t->helper_problem = *e;
        daemon_arm(t->daemon, &t->timer, AGAIN_MS, on_timer, t);
}

/* Until it answers once: one that systemd starts when it is asked must not be kept awake by us. */
static void ask_helper(struct selftest *t)
{
        struct helper_request r = {.operation = HELPER_HELLO};
        struct daemon *d = t->daemon;

        if (!d->helper) {
                t->helper_problem = d->helper_problem;
                return;
        }
        if (!t->is_asking && helper_client_ask(d->helper, &r, on_hello, t) == 0)
                t->is_asking = true;
        else if (!t->is_asking)
                daemon_arm(d, &t->timer, AGAIN_MS, on_timer, t);
}

/* ---- what is asked of us ---- */

static int test_store(struct daemon *d, struct error *ret_error)
{
        char now[32];

        snprintf(now, sizeof now, "%lld", (long long)daemon_unix_ms());
        return store_set(d->store, STORE_TEST, now, ret_error);
}

static int test_helper(const struct selftest *t, struct error *ret_error)
{
        if (t->helper_answered)
                return 0;
        if (t->helper_problem.number > 0) {
                *ret_error = t->helper_problem;
                return -t->helper_problem.number;
        }
        return error_set(ret_error, EAGAIN, "helper.silent", "the helper has not answered yet");
}

/* What is written for our children must be what they can read. */
static int test_configuration(const struct daemon *d, struct error *ret_error)
{
        struct site *site = NULL;
        int r = site_load(d->settings->effective_path, &site, ret_error);

        site_free(site);
        return r;
}

static int test_certificate(const struct daemon *d, struct error *ret_error)
{
        int64_t end = reach_certificate_end(d->reach);

        if (end == 0)
                return error_set(ret_error, ENOENT, "certificate.unknown",
                        "%s is no certificate that can be read", d->settings->site->certificate_path);
        if (end <= daemon_unix_ms() / 1000)
                return error_set(ret_error, EKEYEXPIRED, "certificate.expired",
                        "the node's certificate %s has expired", d->settings->site->certificate_path);
        return 0;
}

json_t *selftest_view(struct selftest *t)
{
        _cleanup_free_ char *text = NULL;
        struct error e = {0};
        int r = test_store(t->daemon, &e);

        if (r >= 0)
                r = test_helper(t, &e);
        if (r >= 0)
                r = test_configuration(t->daemon, &e);
        if (r >= 0)
                r = test_certificate(t->daemon, &e);
        if (r >= 0)
                return json_pack("{s:b,s:n}", "ok", 1, "error");
        text = str_printable(e.text, strlen(e.text), sizeof e.text);
        return json_pack("{s:b,s:s}", "ok", 0, "error", text);
}

int selftest_new(struct daemon *d, struct selftest **ret)
{
        struct selftest *t = xcalloc(1, sizeof *t);

        t->daemon = d;
        *ret = t;
        ask_helper(t);
        return 0;
}

struct selftest *selftest_free(struct selftest *t)
{
        if (!t)
                return NULL;
        sd_event_source_disable_unref(t->timer);
        free(t);
        return NULL;
}
