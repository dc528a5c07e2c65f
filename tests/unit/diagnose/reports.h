/* Reports made by hand for tests of what is written from them. */
#pragma once

#include "diagnose/report.h"

void report_healthy(struct report *ret);
/* TCP 443 dropped behind the gateway at both addresses of repo; 8443 fine. */
void report_dropped(struct report *ret);
/* Refused by ICMP of a second router; one address of two. */
void report_rejected(struct report *ret);
/* A LAN route captures a DNS server. */
void report_captured(struct report *ret);
void report_intercepted(struct report *ret);
/* repo is down by itself: nothing for the site to do. */
void report_service_down(struct report *ret);
void report_undetermined(struct report *ret);
/* Dropped at one address of repo, unexplained at the other, and control down at one of its own. */
void report_mixed(struct report *ret);
/* 64 targets, 40 of them dropped, in 20 ranges. */
void report_many(struct report *ret);
/* Strings that try to break out of every format, and a proxy's password. */
void report_hostile(struct report *ret);
