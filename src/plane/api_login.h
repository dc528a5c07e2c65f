/* Wrong passwords, by name, whether there is such a user or not: so that being slowed says nothing of who
 * exists. Five wrong ones slow the sixth, for 30 s; each more doubles it, up to 16 minutes. Pure. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct logins; /* opaque */

#define LOGIN_FREE_FAILURES 5
#define LOGIN_FIRST_WAIT_MS INT64_C(30000)
#define LOGIN_LONGEST_SHIFT 5
#define LOGIN_FORGET_MS     INT64_C(3600000) /* without another failure */
#define LOGIN_NAMES         4096             /* remembered */

struct logins *logins_new(void);
struct logins *logins_free(struct logins *l);
/* 0: the password may be looked at, and is counted as being looked at until logins_end(). Else milliseconds
 * to wait. */
int64_t logins_begin(struct logins *l, const char *organisation, const char *name, int64_t now_ms);
void logins_end(struct logins *l, const char *organisation, const char *name, bool right, int64_t now_ms);
/* It was not looked at after all. */
void logins_cancel(struct logins *l, const char *organisation, const char *name);
