/* A world around the monitor, in which time passes as the test says. */
#pragma once

#include "node/monitor.h"

#include "base/text.h"

#define SECOND   1000.0
#define MINUTE   60000.0
#define HOUR     3600000.0
#define SERVICES 3
#define SERVERS  2

struct asked {
        double at_ms, bytes;
        struct monitor_probe probe;
};

struct world {
        struct profile profile;
        struct profile_service services[SERVICES];
        struct inet_addr addresses[SERVICES][2], servers[SERVERS];
        bool up[SERVICES][2], http_up[SERVICES], server_up[SERVERS];
        struct inet_addr gone; /* does not answer */
        bool known_by_dns;
        bool has_dns_answers; /* its answers have the addresses */
        int lose;             /* so many of the next attempts at services fail, whatever is up */
        bool lies;            /* the diagnosis finds everything well */
        bool no_diagnosis;    /* it cannot be made */
        bool is_captured;     /* servers that are down are: a route takes what is meant for them */
        double now_ms;
        struct monitor *m;
        struct asked *asked;
        size_t asked_count;
        struct strv events; /* "name|message|severity|diagnosis" */
        size_t diagnoses;
        unsigned fails[SERVICES][2], server_fails[SERVERS]; /* in a row, as the monitor heard them */
        double taken_ms;
        bool after_http; /* something was wrong that no probe sees */
};

struct inet_addr address(const char *text);
/* Services are repo, control and images, with two addresses each; all is well. */
void world_init(struct world *w, size_t services, size_t servers, uint64_t seed);
void world_done(struct world *w);
/* Of the name; fails the test when there is none. */
size_t service_index(const struct world *w, const char *name);
size_t server_index(const struct world *w, const struct inet_addr *a);
/* From the monitor to `events`. */
void take_events(struct world *w);
/* One step, not beyond `until_ms`. */
void step(struct world *w, double until_ms);
void run(struct world *w, double for_ms);
/* Those since the last call, a line each. */
void assert_events(struct world *w, const char *wanted);
enum monitor_state state_of(const struct world *w, size_t i);
/* Both addresses. */
void set_service(struct world *w, size_t i, bool up);
double most_bytes_in_ten_minutes(const struct world *w);
