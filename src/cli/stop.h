/* The signals that end a run early: it stops measuring, writes what it knows, and ends with 128 + signal. */
#pragma once

/* Installs handlers for SIGINT, SIGTERM and SIGHUP (which stays ignored under nohup). Gives an eventfd that
 * becomes readable with the first of them; a second one of the same kind ends the program at once. -errno on
 * failure. Only for what measures: whatever else a command waits for, a signal simply ends. */
int stop_watch(void);
/* The signal that came, 0 none. */
int stop_signal(void);
