/* The words of gridnode-helper for the log: lines on standard error, for journald with their priority
 * (sd-daemon(3)). Not base/log.h: that would bring libsystemd's memory into a process of two megabytes. */
#pragma once

#include <syslog.h>

void say(int priority, const char *format, ...) __attribute__((format(printf, 2, 3)));
