/* One diagnosis: asks the plan what to measure, runs the probes side by side, keeps to the budget, concludes.
 */
#pragma once

#include "diagnose/report.h"
#include "net/profile.h"
#include "net/site.h"

struct diagnosis_options {
        const struct site *site;       /* never NULL (site_new_default) */
        const struct profile *profile; /* NULL: only this host's own network is looked at */
        struct inet_addr source;       /* unset: the WAN interface's address */
        const char *interface;         /* NULL: the site's WAN, else the default route's */
        double budget_ms;              /* whole run; 0: 5000 */
        const char *capture_path;      /* pcapng to write, NULL none */
        bool no_capture;               /* do not watch packets at all */
        int stop_fd; /* readable (signalfd, eventfd) when the run shall end at once; -1 none */
        /* After each measurement: how many are done and under way. May be NULL. */
        void (*on_progress)(const struct measurement *last, size_t done, size_t pending, double elapsed_ms,
                void *userdata);
        void *userdata;
};

/* 0 with a full report (also when interrupted: report.interrupted), or -errno when nothing could be measured
 * at all: -ENODEV no such interface, -EADDRNOTAVAIL is not an error but a cause, -EIO capture file, -EBADMSG
 * trust. */
int diagnosis_run(const struct diagnosis_options *o, struct report *ret, struct error *ret_error);
