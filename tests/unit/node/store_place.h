/* A store in a folder of its own, and what its outbox has. */
#pragma once

#include "node/store.h"

#include "base/text.h"

#define NOW 1795230000000LL

extern char folder[64], path[96];

struct collected {
        size_t count, stop_after;
        int64_t seqs[4096];
        enum topic_kind kinds[4096];
        struct strv payloads;
};

int set_up(void **state);
int tear_down(void **state);
/* Nothing was to be mended; fails the test otherwise. */
struct store *open_store(const struct store_limits *limits);
/* Borrows; nothing is to be freed. */
struct wire_event make_event(enum wire_severity severity, const char *message);
/* Its number. */
int64_t add(struct store *s, enum wire_severity severity, const char *message);
/* For store_each_unsent(): adds to a struct collected. */
int on_item(int64_t seq, enum topic_kind kind, const char *payload, size_t length, void *userdata);
/* All that waits. */
void collect(struct store *s, struct collected *c);
struct wire_event parse_event(const char *payload);
void acknowledge(struct store *s, const char *epoch, int64_t seq);
/* Sums what the records of dropped ones in the outbox say: reports, INFO, WARNING, ERROR. */
size_t read_dropped(const struct collected *c, long long ret[4]);
/* How many payloads have it. */
size_t count_messages(const struct collected *c, const char *message);
