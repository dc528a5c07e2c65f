/* A control plane for the tests of enrolment: real certificates of the plane's own authority, and one small
 * HTTPS server in a process of its own on 127.0.0.1. It knows these tokens: "gnt_good", "gnt_expired",
 * "gnt_lost" (its first answer is never sent), "gnt_foreign" (answers with another key's certificate),
 * "gnt_other-root" (tells another root). */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#define DOUBLE_PORT 4443
#define DOUBLE_HOST "repo.grid.example"

/* `folder` is made; FOLDER/ca/root.crt is the root. `profile` is told to nodes. */
pid_t plane_double_start(const char *folder, const char *profile);
/* SHA-256 of the root's DER, in hexadecimal. */
const char *plane_double_fingerprint(void);
