/* What the daemon tells: into the store, and to those who follow. What a full disk does not take is kept in
 * memory and tried again, in order. */
#include "node/daemon_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

#define RETRY_MS 30000

static void copy_event(struct wire_event *to, const struct wire_event *from)
{
        *to = *from;
        to->name = xstrdup(from->name);
        to->message = xstrdup(from->message);
        to->service = xstrdup(from->service);
        to->diagnosis = from->diagnosis ? json_deep_copy(from->diagnosis) : NULL;
        to->update = from->update ? json_deep_copy(from->update) : NULL;
}

static void remove_unstored(struct daemon *d, size_t index)
{
        wire_event_done(&d->unstored[index]);
        memmove(&d->unstored[index], &d->unstored[index + 1],
                (--d->unstored_count - index) * sizeof *d->unstored);
        memset(&d->unstored[d->unstored_count], 0, sizeof *d->unstored);
}

/* The oldest of the least important makes room. */
static void make_room(struct daemon *d)
{
        size_t least = 0;

        for (size_t i = 1; i < d->unstored_count; i++)
                if (d->unstored[i].severity < d->unstored[least].severity)
                        least = i;
        log_event(LOG_LEVEL_ERROR, "an event is lost: the disk has been full for too long", "event",
                d->unstored[least].name, "message", d->unstored[least].message, NULL);
        remove_unstored(d, least);
        d->unstored_lost++;
}

static int on_retry(sd_event_source *source, uint64_t at_us, void *userdata)
{
        (void)source;
        (void)at_us;
        daemon_record(userdata, NULL, NULL, 0);
        return 0;
}

/* -EINVAL: the store will never take it. It must not stand in the way of the others. */
static int add_one(struct daemon *d, struct wire_event *event, struct error *ret_error)
{
        int r = store_add(d->store, NULL, event, 1, daemon_unix_ms(), ret_error);

        if (r == -EINVAL)
                log_event(LOG_LEVEL_ERROR, "an event is lost: it cannot be stored", "event", event->name,
                        "reason", ret_error->text, NULL);
        return r;
}

/* That something is missing is itself recorded. */
static void tell_lost(struct daemon *d)
{
        struct wire_event e = {.generated_unix_ms = daemon_unix_ms(), .severity = WIRE_WARNING};
        struct error ignored = {0};

        if (d->unstored_lost == 0)
                return;
        e.name = xstrdup(EVENT_RECORDS_DROPPED);
        e.message = xasprintf("%zu events were lost: the disk was full for too long", d->unstored_lost);
        if (add_one(d, &e, &ignored) == 0)
                d->unstored_lost = 0;
        wire_event_done(&e);
}

/* Those that waited go first. False: they wait on. */
static bool store_waiting_ones(struct daemon *d, struct error *ret_error)
{
        size_t count = d->unstored_count;

        while (d->unstored_count > 0) {
                int r = add_one(d, &d->unstored[0], ret_error);

                if (r < 0 && r != -EINVAL)
                        return false;
                remove_unstored(d, 0);
        }
        if (count > 0)
                log_text(LOG_LEVEL_INFO, "%zu events that waited for the disk are stored", count);
        tell_lost(d);
        return true;
}

static void keep(struct daemon *d, const struct wire_event *events, size_t count, const struct error *e)
{
        if (count > 0)
                log_event(LOG_LEVEL_ERROR, "events cannot be stored now; they are kept in memory", "reason",
                        e->text, NULL);
        for (size_t i = 0; i < count; i++) {
                if (d->unstored_count == DAEMON_MAX_UNSTORED)
                        make_room(d);
                copy_event(&d->unstored[d->unstored_count++], &events[i]);
        }
        daemon_arm(d, &d->unstored_retry, RETRY_MS, on_retry, d);
}

static enum log_level level_of(enum wire_severity s)
{
        switch (s) {
        case WIRE_ERROR:
                return LOG_LEVEL_ERROR;
        case WIRE_WARNING:
                return LOG_LEVEL_WARNING;
        case WIRE_INFO:
                return LOG_LEVEL_INFO;
        }
        return LOG_LEVEL_INFO;
}

/* A report that the disk does not take is measured again when it matters; an event is kept. */
static void add_new(struct daemon *d, struct wire_report *report, struct wire_event *events, size_t count)
{
        struct error e = {0};
        int r = store_add(d->store, report, events, count, daemon_unix_ms(), &e);

        if (r < 0 && r != -EINVAL)
                keep(d, events, count, &e);
        for (size_t i = 0; i < count && r == -EINVAL; i++) {
                int one = add_one(d, &events[i], &e);

                if (one < 0 && one != -EINVAL)
                        keep(d, &events[i], 1, &e);
        }
}

static void announce(struct daemon *d, const struct wire_event *e)
{
        log_event(level_of(e->severity), e->message, "event", e->name, "service", e->service, NULL);
        if (d->desk)
                desk_event(d->desk, e);
}

int daemon_record_noting(struct daemon *d, struct wire_event *event, const char *name, const char *value)
{
        struct error e = {0};
        int r = store_add_noting(d->store, event, name, value, daemon_unix_ms(), &e);

        if (r < 0) {
                log_event(LOG_LEVEL_ERROR, "an event cannot be stored now; it is tried again", "event",
                        event->name, "reason", e.text, NULL);
                return r;
        }
        announce(d, event);
        if (d->channel)
                channel_outbox_changed(d->channel);
        return 0;
}

void daemon_record(struct daemon *d, struct wire_report *report, struct wire_event *events, size_t count)
{
        struct error e = {0};

        if (!store_waiting_ones(d, &e))
                keep(d, events, count, &e);
        else if (count > 0 || report)
                add_new(d, report, events, count);
        for (size_t i = 0; i < count; i++)
                announce(d, &events[i]);
        if (d->channel)
                channel_outbox_changed(d->channel);
}

void daemon_tell(struct daemon *d, const char *name, enum wire_severity severity, const char *service,
        const json_t *diagnosis, const char *format, ...)
{
        struct wire_event e = {
                .generated_unix_ms = daemon_unix_ms(), .severity = severity, .name = xstrdup(name)};
        _cleanup_free_ char *message = NULL;
        va_list arguments;

        va_start(arguments, format);
        message = xvasprintf(format, arguments);
        va_end(arguments);
        /* A reason may have been cut in the midst of a character. */
        e.message = str_printable(message, strlen(message), strlen(message));
        e.service = xstrdup(service);
        e.diagnosis = diagnosis ? json_deep_copy(diagnosis) : NULL;
        daemon_record(d, NULL, &e, 1);
        wire_event_done(&e);
}

void daemon_record_done(struct daemon *d)
{
        struct error e = {0};

        if (d->store && !store_waiting_ones(d, &e))
                log_event(LOG_LEVEL_ERROR, "events are lost: they cannot be stored, and the daemon ends",
                        "reason", e.text, NULL);
        while (d->unstored_count > 0)
                remove_unstored(d, d->unstored_count - 1);
        sd_event_source_disable_unref(d->unstored_retry);
}
