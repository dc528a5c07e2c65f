/* Inside the firewall page: its parts. */
#pragma once

#include "diagnose/facts.h"
#include "diagnose/page.h"

/* The cause is for the site's network administrator, and a change there mends it. */
bool report_page_asks_site(const struct cause *c);
/* "What was observed": UTC time, both ends, protocol, result and the device that answered, of the evidence
 * behind what the site is asked for (of everything when it is asked for nothing), and what passes beside it.
 */
void report_page_observed(struct page *p, const struct report *r);
