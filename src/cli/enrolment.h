/* What the commands that speak with the control plane have in common. */
#pragma once

#include "cli/session.h"
#include "node/enrol.h"

#define ENROLMENT_PATIENCE_MS 30000.0

/* Settings by --root and --config. An exit status, after its message. */
int enrolment_load(struct session *s, struct node_settings *ret);
double enrolment_timeout_ms(const struct session *s);
/* Says the error; gives the exit status: 69 for what cannot be reached, 64, 77, 78, else 1. */
int enrolment_fail(const struct session *s, const struct error *e);
