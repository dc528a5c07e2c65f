#include "store_place.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

char folder[64], path[96];

int set_up(void **state)
{
        (void)state;
        str_copy(folder, sizeof folder, "/tmp/gG-store-XXXXXX");
        if (!mkdtemp(folder))
                return -1;
        snprintf(path, sizeof path, "%s/state.db", folder);
        return 0;
}

int tear_down(void **state)
{
        DIR *d = opendir(folder);

        (void)state;
        for (struct dirent *e; d && (e = readdir(d));) {
                char name[512];

                snprintf(name, sizeof name, "%s/%s", folder, e->d_name);
                unlink(name);
        }
        if (d)
                closedir(d);
        return rmdir(folder);
}

struct store *open_store(const struct store_limits *limits)
{
        struct store *s = NULL;
        struct error e = {0};
        char *note = NULL;

        if (store_open(path, limits, &s, &note, &e) < 0)
                fail_msg("%s", e.text);
        assert_null(note);
        return s;
}

struct wire_event make_event(enum wire_severity severity, const char *message)
{
        return (struct wire_event){.generated_unix_ms = NOW,
                .name = (char *)EVENT_REPO_CONNECTIVITY,
                .message = (char *)message,
                .severity = severity,
                .service = (char *)"repo"};
}

int64_t add(struct store *s, enum wire_severity severity, const char *message)
{
        struct wire_event event = make_event(severity, message);
        struct error e = {0};

        if (store_add(s, NULL, &event, 1, NOW, &e) < 0)
                fail_msg("%s", e.text);
        assert_string_equal(event.epoch, store_epoch(s));
        return event.seq;
}

int on_item(int64_t seq, enum topic_kind kind, const char *payload, size_t length, void *userdata)
{
        struct collected *c = userdata;

        assert_in_range(c->count, 0, ELEMENTS(c->seqs) - 1);
        assert_int_equal(length, strlen(payload));
        c->seqs[c->count] = seq;
        c->kinds[c->count++] = kind;
        strv_add(&c->payloads, payload);
        return c->stop_after && c->count == c->stop_after ? 7 : 0;
}

void collect(struct store *s, struct collected *c)
{
        strv_done(&c->payloads);
        *c = (struct collected){0};
        assert_int_equal(store_each_unsent(s, 0, SIZE_MAX, on_item, c, NULL), 0);
}

struct wire_event parse_event(const char *payload)
{
        struct wire_event event = {0};
        struct error e = {0};

        if (wire_event_parse(payload, strlen(payload), &event, &e) < 0)
                fail_msg("%s in %s", e.text, payload);
        return event;
}

void acknowledge(struct store *s, const char *epoch, int64_t seq)
{
        struct wire_ack a = {.seqs = {seq}, .count = 1};

        str_copy(a.epoch, sizeof a.epoch, epoch);
        assert_int_equal(store_acknowledge(s, &a, NULL), 0);
}

size_t read_dropped(const struct collected *c, long long ret[4])
{
        static const char *const words[] = {"reports", "INFO", "WARNING", "ERROR"};
        size_t count = 0;

        memset(ret, 0, 4 * sizeof ret[0]);
        for (size_t i = 0; i < c->count; i++) {
                struct wire_event event;

                if (c->kinds[i] != TOPIC_EVENT)
                        continue;
                event = parse_event(c->payloads.items[i]);
                if (str_equal(event.name, EVENT_RECORDS_DROPPED)) {
                        count++;
                        for (size_t k = 0; k < 4; k++) {
                                char *at = strstr(event.message, words[k]);

                                ret[k] += at ? atoll(at + strlen(words[k])) : 0;
                        }
                }
                wire_event_done(&event);
        }
        return count;
}

size_t count_messages(const struct collected *c, const char *message)
{
        size_t n = 0;

        for (size_t i = 0; i < c->count; i++)
                n += strstr(c->payloads.items[i], message) != NULL;
        return n;
}
