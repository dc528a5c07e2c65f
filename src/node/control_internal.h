/* What both ends of the control socket share. */
#pragma once

#define CONTROL_LINE_MAX       4096 /* bytes of a request with its newline */
#define CONTROL_EVENTS_DEFAULT 50
#define CONTROL_EVENTS_MAX     1000
