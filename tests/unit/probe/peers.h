/* What a probe's test talks to: real servers, and listeners that misbehave, all in a network namespace that
 * the test makes for itself. */
#pragma once

#include "probe/probe.h"

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A namespace with a loopback interface that is up, and nothing else. */
void peers_enter_namespace(void);
/* Starts a program (argv NULL-terminated) and waits until it listens on 127.0.0.1:port. Its output goes to
 * `log`. */
pid_t peers_start(const char *const argv[], uint16_t port, const char *log);
/* Listens on 127.0.0.1:port in a process of its own; every connection is handed to `behave`, then closed. */
pid_t peers_misbehave(uint16_t port, void (*behave)(int fd));
void peers_stop(pid_t pid);
/* Runs one probe to its end; fails the test when that takes more than 20 seconds. */
struct measurement *peers_measure(struct probe_context *c, const struct probe_spec *spec);
struct endpoint peers_endpoint(uint16_t port);

/* ---- certificates ---- */

#define PEERS_HOST "repo.grid.example"

/* Makes a folder of certificates: root; leaf, expired, forged (by a foreign authority) for PEERS_HOST; node
 * and old_node (expired) for clients. Each NAME has NAME.crt, NAME.key, NAME.chain (its issuer) and NAME.pem
 * (both). */
void peers_make_pki(void);
void peers_remove_pki(void);
const char *peers_folder(void);
/* FOLDER/NAME; good until sixteen others have been asked for. */
const char *peers_path(const char *name);
struct trust *peers_trust(const char *client); /* pinned to root, with NAME's certificate */

/* ---- behaviours ---- */

void peers_read_some(int fd); /* waits for the first bytes and takes them */
void peers_send(int fd, const void *bytes, size_t length);
void peers_close_with_reset(int fd);
void peers_stay_silent(int fd); /* reads until the other side goes away */
