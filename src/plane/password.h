/* Passwords: argon2id (libsodium's crypto_pwhash_str, INTERACTIVE limits: 64 MiB, about 60 ms). One worker
 * thread does it, so that the loop goes on meanwhile: the one thread of the plane. */
#pragma once

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>
#include <systemd/sd-event.h>

struct passwords; /* opaque */
int passwords_new(sd_event *event, struct passwords **ret);
/* Waits for the one under way; what else waits is dropped, and its `done` never called. */
struct passwords *passwords_free(struct passwords *p);
/* `done` comes from the loop; hash is NULL on failure. -EAGAIN: 64 wait already; -EINVAL: not acceptable. */
int passwords_hash(struct passwords *p, const char *password, void (*done)(const char *hash, void *userdata),
        void *userdata);
/* `hash` NULL: takes as long as for a user that exists, and is wrong. */
int passwords_verify(struct passwords *p, const char *password, const char *hash,
        void (*done)(bool right, void *userdata), void *userdata);
/* At least 12 bytes, at most 1024. 0 or -EINVAL. */
int password_is_acceptable(const char *password, struct error *ret_error);

#define PASSWORD_FREE_FAILURES    5
#define PASSWORD_FIRST_DELAY_MS   INT64_C(1000) /* from the fifth wrong one on; doubles */
#define PASSWORD_LONGEST_DELAY_MS INT64_C(900000)
/* How long a name is to be blocked after `failures` wrong passwords in a row. */
int64_t password_delay_ms(int64_t failures);
