/* What tests of several folders need around them. Failures of it fail the test. */
#pragma once

#include <stdbool.h>
#include <systemd/sd-event.h>

/* A network namespace with a loopback interface that is up, and nothing else. As root that is enough; else a
 * user namespace comes with it, in which this process is root. */
void scaffold_enter_namespace(void);
/* Runs the loop until *flag, for at most `timeout_ms`; *flag as it is then. */
bool scaffold_run_until(sd_event *event, const bool *flag, double timeout_ms);
void scaffold_run_for(sd_event *event, double time_ms);
/* Of this process, the one that it takes to count them among them: to be compared with an earlier count. */
unsigned scaffold_count_descriptors(void);
