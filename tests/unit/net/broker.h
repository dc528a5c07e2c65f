/* A real mosquitto for tests, and nginx before it, in a network namespace of the test's own; certificates;
 * and a loop that runs until something has come true. */
#pragma once

#include "../pki.h"

#include <stdbool.h>
#include <sys/types.h>
#include <systemd/sd-event.h>

#define BROKER_HOST     "control.grid.example"
#define BROKER_TLS_PORT 8883 /* mosquitto: mutual TLS, the certificate's common name is the user */
#define BROKER_TCP_PORT 1883 /* mosquitto: anybody */
#define BROKER_SHUT     1884 /* mosquitto: nobody may */
#define BROKER_PREREAD  8443 /* nginx: logs SNI and ALPN, hands on to mosquitto */

/* A namespace with a loopback interface that is up and has 198.51.100.1 to .3, and a folder with root.pem,
 * other-root.pem, node.crt, node.key (CN n-1), other.crt, other.key (of the other root), server.crt,
 * server.key. For cmocka's group. */
int broker_set_up(void **state);
int broker_tear_down(void **state);
const char *broker_path(const char *name); /* in the folder; good for the next 15 calls */
void broker_run(const char *command);      /* by the shell; asserts that it succeeds */

/* Starts it, and waits until it answers; `acl` is an access control file's content or NULL. */
pid_t broker_start(const char *acl);
pid_t broker_start_nginx(void);
void broker_stop(pid_t pid, int signal); /* and reaps; 0 for `pid` does nothing */
/* A TCP listener on 127.0.0.1; *ret_port. */
int broker_listen(unsigned short *ret_port);

/* Runs the loop until *flag is true (then true) or the time is over. Notes in broker_longest_ms how long the
 * loop was ever kept busy by others. */
bool broker_loop(sd_event *event, const bool *flag, double timeout_ms);
void broker_wait(sd_event *event, double time_ms); /* just runs it */
extern double broker_longest_ms;
