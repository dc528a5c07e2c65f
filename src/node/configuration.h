/* What a diagnosis knows beforehand - profile, services, site, LANs - as measurements of the config.* kinds,
 * so that a stored report concludes the same without the files. */
#pragma once

#include "net/profile.h"
#include "net/site.h"
#include "probe/measurement.h"

struct configuration {
        char interface[IFNAMSIZ]; /* the WAN, "" when there is none */
        struct inet_addr source, gateway;
        bool has_certificate;            /* the node's identity could be read */
        const char *certificate_problem; /* why not, where it is there and wrong; NULL otherwise */
};

/* Adds them to the list. `profile` may be NULL. */
void configuration_record(const struct configuration *c, const struct site *site,
        const struct profile *profile, struct measurement_list *list);
