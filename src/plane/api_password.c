/* Passwords take the worker thread 60 ms; the exchange waits, the loop does not. */
#include "plane/api_internal.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <utlist.h>

struct wait {
        struct api *api;
        struct exchange *exchange; /* NULL: the API is gone */
        void (*on_hash)(struct exchange *x, const char *hash);
        void (*on_verified)(struct exchange *x, bool right);
        struct wait *prev, *next;
};

/* The exchange of a wait that has ended; NULL when nobody waits any more. */
static struct exchange *finish(struct wait *w)
{
        struct exchange *x = w->exchange;

        if (x)
                DL_DELETE(w->api->waits, w);
        return x;
}

static void on_hash(const char *hash, void *userdata)
{
        struct wait *w = userdata;
        struct exchange *x = finish(w);

        if (x) {
                w->on_hash(x, hash);
                api_resume(x);
        }
        free(w);
}

static void on_verified(bool right, void *userdata)
{
        struct wait *w = userdata;
        struct exchange *x = finish(w);

        if (x) {
                w->on_verified(x, right);
                api_resume(x);
        }
        free(w);
}

static struct wait *wait_new(struct exchange *x)
{
        struct wait *w = xcalloc(1, sizeof *w);

        w->api = x->api;
        w->exchange = x;
        return w;
}

static void begun(struct exchange *x, struct wait *w, int r)
{
        if (r < 0) {
                free(w);
                api_problem_wait(x, MHD_HTTP_SERVICE_UNAVAILABLE, "passwords.busy", 1000,
                        "too many passwords are being looked at; try again in a second");
                return;
        }
        DL_APPEND(x->api->waits, w);
        api_suspend(x);
}

void api_hash_password(
        struct exchange *x, const char *password, void (*then)(struct exchange *x, const char *hash))
{
        struct wait *w = wait_new(x);

        w->on_hash = then;
        begun(x, w, passwords_hash(x->api->options.passwords, password, on_hash, w));
}

void api_verify_password(struct exchange *x, const char *password, const char *hash,
        void (*then)(struct exchange *x, bool right))
{
        struct wait *w = wait_new(x);

        w->on_verified = then;
        begun(x, w, passwords_verify(x->api->options.passwords, password, hash, on_verified, w));
}

void api_waits_end(struct api *a)
{
        struct wait *w, *next;

        DL_FOREACH_SAFE(a->waits, w, next)
        {
                DL_DELETE(a->waits, w);
                api_problem(w->exchange, MHD_HTTP_SERVICE_UNAVAILABLE, "stopping",
                        "the control plane is being stopped");
                api_resume(w->exchange);
                w->exchange = NULL; /* its end still comes from the worker, and frees it */
        }
}
