/* Wrong passwords of names that there are not: counted and slowed as plane_user_failed does it for those that
 * there are, so that being slowed says nothing of who exists. Pure. */
#pragma once

#include <stdint.h>

struct logins; /* opaque */

#define LOGIN_NAMES 4096 /* remembered; the one that is quiet for longest is forgotten */

struct logins *logins_new(void);
struct logins *logins_free(struct logins *l);
/* 0: a guess may be made, and is counted as wrong before it is looked at: guesses side by side count as well.
 * Else milliseconds to wait. */
int64_t logins_try(struct logins *l, const char *organisation, const char *name, int64_t now_ms);
