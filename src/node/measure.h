/* Runs a handful of probes for the hand tools: give specs, get the measurements, within a budget and until a
 * stop file descriptor becomes readable. A diagnosis has its own runner (diagnosis.h), since there a plan
 * decides. */
#pragma once

#include "base/error.h"
#include "net/trust.h"
#include "probe/probe.h"

struct measure; /* opaque */

struct measure_options {
        struct inet_addr source;           /* unset: the kernel chooses */
        const char *device;                /* every probe is bound to it by SO_BINDTODEVICE; NULL: by route */
        const char *wan_interface;         /* NULL: not known */
        double budget_ms;                  /* of all runs together */
        int stop_fd;                       /* readable when the runs shall end at once; -1 none */
        bool capture;                      /* watch the probes' packets where that is permitted */
        const struct trust_options *trust; /* NULL: nothing to verify against */
};

/* 0 or -errno: -ENODEV for a device that does not exist, or what trust_new says. */
int measure_new(const struct measure_options *o, struct measure **ret, struct error *ret_error);
struct measure *measure_free(struct measure *m);

/* Queues a measurement for the next run. What gets no answer and did not, as far as is known, leave this host
 * also tells of its next hop: next_hop, route_interface, neighbour_state. */
void measure_add(struct measure *m, const struct probe_spec *spec);
/* Has each result of the runs to come told, once (NULL: no more). They are told in the order in which they
 * were asked for; one that is not there yet holds up those behind it for 100 ms at most, so that what comes
 * together has an order that does not change from run to run, and what is silent keeps nothing back. All are
 * told before measure_run() returns. What the callback queues belongs to the same run. */
typedef void (*measure_on_results)(const struct measurement *const *results, size_t count, void *userdata);
void measure_tell(struct measure *m, measure_on_results on_results, void *userdata);
/* Runs what was queued until all of it is done, or `is_enough` (may be NULL; asked after each result) says
 * so, or the budget or a stop ends it: what is not done then is in the list as not-tested. 0 or -errno. May
 * be called again after more was queued. */
int measure_run(struct measure *m, bool (*is_enough)(const struct measurement_list *l, void *userdata),
        void *userdata);
/* Lets time pass, so that a device that limits its answers gets its breath back; ends early with the budget
 * or a stop. */
void measure_wait(struct measure *m, double delay_ms);
/* All results so far, in the order in which they came. */
const struct measurement_list *measure_list(const struct measure *m);
/* The budget or a stop has ended it: a further run measures nothing. */
bool measure_is_over(const struct measure *m);
bool measure_was_stopped(const struct measure *m);
double measure_elapsed_ms(const struct measure *m);

/* The first usable address of an interface; -ENODEV, or -EADDRNOTAVAIL when it has none of that family. */
int measure_interface_address(const char *interface, sa_family_t family, struct inet_addr *ret);
/* Interface and source address (may be NULL) of the default route for IPv4; -ENETUNREACH when there is none.
 */
int measure_default_wan(char ret_interface[IFNAMSIZ], struct inet_addr *ret_source);
