/* The way of each service and DNS server as a picture: a line from the node to the control plane, broken
 * where it breaks. */
#pragma once

#include "diagnose/facts.h"
#include "diagnose/paper.h"

void report_picture_services(struct paper *p, const struct report *r, const struct facts *f);
void report_picture_servers(struct paper *p, const struct report *r, const struct facts *f);
/* How a state is marked: a glyph and a space. */
void report_picture_mark(struct paper *p, enum ink ink);
