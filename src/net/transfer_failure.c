/* What an attempt, a round of attempts, and a transfer that ended say of themselves. */
#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#define WHAT_TO_DO "; 'gridnode diag' finds out why"

/* The cause in front where the daemon knows it: what people can act on. Else, how to get it. */
static void add_cause(struct transfer *t)
{
        const struct way_view *v = way_cause(t->engine);
        struct transfer_failure *f = &t->view.failure;
        _cleanup_free_ char *own = xstrdup(f->text);

        if (f->is_permanent || str_equal(f->stage, "disk") || str_equal(f->stage, "hash"))
                return;
        if (v) {
                str_copy(f->code, sizeof(f->code), v->code);
                snprintf(f->text, sizeof(f->text), "%s (%s)", v->summary, own);
        } else if (strlen(own) + sizeof(WHAT_TO_DO) <= sizeof(f->text))
                snprintf(f->text, sizeof(f->text), "%s%s", own, WHAT_TO_DO);
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

/* ---- of a round ---- */

void round_note(struct transfer *t, const char *stage, const char *reason)
{
        struct tried *r = &t->tried[t->tried_count];

        if (t->tried_count == MAX_TRIED)
                return;
        t->tried_count++;
        r->to = t->attempt->to;
        str_copy(r->stage, sizeof(r->stage), stage);
        str_copy(r->reason, sizeof(r->reason), reason);
        r->is_told = false;
}

/* "443 at 192.0.2.1, 192.0.2.2: tcp: no answer": all that failed alike. */
static void add_alike(struct transfer *t, size_t first, struct text *to)
{
        struct tried *r = &t->tried[first];
        char address[INET_ADDR_TEXT];

        text_addf(to, "%u at ", r->to.port);
        for (size_t i = first; i < t->tried_count; i++) {
                struct tried *other = &t->tried[i];

                if (other->is_told || other->to.port != r->to.port || !str_equal(other->stage, r->stage) ||
                        !str_equal(other->reason, r->reason))
                        continue;
                text_addf(to, "%s%s", i == first ? "" : ", ", inet_addr_format(&other->to.address, address));
                other->is_told = true;
        }
        text_addf(to, ": %s: %s", r->stage, r->reason);
}

void round_tell(struct transfer *t)
{
        struct transfer_failure *f = &t->view.failure;
        struct text all = {0};

        if (t->round.next < t->round.count && t->rounds > 1 && t->whole.number) {
                /* This round is not over: the one before says more. */
                *f = t->whole;
                return;
        }
        if (t->tried_count + (t->dns_text[0] != '\0') < 2 || t->engine->proxy)
                return;
        for (size_t i = 0; i < t->tried_count; i++)
                t->tried[i].is_told = false;
        text_addf(&all, "%s cannot be reached: ", t->request.host);
        for (size_t i = 0, told = 0; i < t->tried_count; i++)
                if (!t->tried[i].is_told) {
                        text_add(&all, told++ ? "; " : "");
                        add_alike(t, i, &all);
                }
        if (t->dns_text[0])
                text_addf(&all, "%s%s", t->tried_count ? "; and " : "", t->dns_text);
        str_copy(f->text, sizeof(f->text), text_string(&all));
        text_done(&all);
        add_cause(t);
        t->whole = *f;
}
