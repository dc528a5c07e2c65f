#include "plane/denials.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/log.h"
#include "base/text.h"

#include <stdio.h>
#include <string.h>
#include <uthash.h>

#define LOG_WINDOW_US     ((uint64_t)60 * 1000000)
#define CLIENT_BYTES      64 /* of a node's id (wire/topic.h); more is no node's */
#define TOPIC_SHOWN_BYTES 300
#ifndef CLIENTS_REMEMBERED
#define CLIENTS_REMEMBERED 20000
#endif

struct refused_client {
        char name[CLIENT_BYTES + 1];
        struct log_limit limit;
        UT_hash_handle hh;
};

struct denials {
        sd_event *event;
        struct refused_client *clients;
        struct log_limit others; /* all whom there is no room for */
};

static struct log_limit *limit_of(struct denials *d, const struct mosquitto_denial *denial)
{
        struct refused_client *c;

        if (denial->client_length > CLIENT_BYTES)
                return &d->others;
        HASH_FIND(hh, d->clients, denial->client, denial->client_length, c);
        if (c)
                return &c->limit;
        if (HASH_COUNT(d->clients) >= CLIENTS_REMEMBERED)
                return &d->others;
        c = xcalloc(1, sizeof *c);
        memcpy(c->name, denial->client, denial->client_length);
        HASH_ADD(hh, d->clients, name[0], denial->client_length, c);
        return &c->limit;
}

void denials_add(struct denials *d, const struct mosquitto_denial *denial)
{
        _cleanup_free_ char *client = NULL, *topic = NULL;
        uint64_t now_us = 0;
        unsigned suppressed;
        char count[16];

        sd_event_now(d->event, CLOCK_MONOTONIC, &now_us);
        if (!log_limit_allows(limit_of(d, denial), now_us, LOG_WINDOW_US, &suppressed))
                return;
        client = str_excerpt(denial->client, denial->client_length, 2 * CLIENT_BYTES);
        topic = str_excerpt(denial->topic, denial->topic_length, TOPIC_SHOWN_BYTES);
        snprintf(count, sizeof count, "%u", suppressed);
        log_event(LOG_LEVEL_WARNING, "a node published where it may not, and the broker refused it", "node",
                client, "topic", topic, "suppressed", suppressed ? count : NULL, NULL);
}

struct denials *denials_new(sd_event *event)
{
        struct denials *d = xcalloc(1, sizeof *d);

        d->event = event;
        return d;
}

struct denials *denials_free(struct denials *d)
{
        struct refused_client *c, *next;

        if (!d)
                return NULL;
        HASH_ITER(hh, d->clients, c, next)
        {
                HASH_DEL(d->clients, c);
                free(c);
        }
        free(d);
        return NULL;
}
