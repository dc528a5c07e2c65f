/* Measurements in the words of the hand tools. */
#pragma once

#include "cli/writer.h"
#include "probe/measurement.h"

/* "administratively prohibited", "port unreachable" …; RFC 792, 1122, 1812, 4443 */
const char *show_icmp_name(sa_family_t family, int type, int code);
/* "192.0.2.77 does not answer ARP on eth0" where that is why nothing left this host; NULL otherwise. Caller
 * frees. */
char *show_silent_neighbour(const struct measurement *m);
/* What came of a measurement as a bare value, marked by its colour. */
void show_outcome(struct writer *w, const struct measurement *m);
/* The outcome's fields for machines: outcome, errno, icmp, by. */
void show_failure_fields(struct writer *w, const struct measurement *m);
