#include "plane/api_login.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

struct login {
        char *key;
        unsigned failures, pending;
        int64_t failed_ms, blocked_until_ms;
        struct login *prev, *next; /* the quietest first */
        UT_hash_handle hh;
};

struct logins {
        struct login *by_key, *quietest;
};

struct logins *logins_new(void)
{
        return xcalloc(1, sizeof(struct logins));
}

static void forget(struct logins *l, struct login *i)
{
        HASH_DEL(l->by_key, i);
        DL_DELETE(l->quietest, i);
        free(i->key);
        free(i);
}

struct logins *logins_free(struct logins *l)
{
        if (!l)
                return NULL;
        while (l->quietest)
                forget(l, l->quietest);
        free(l);
        return NULL;
}

static struct login *get(struct logins *l, const char *organisation, const char *name)
{
        char *key = xasprintf("%s\n%s", organisation, name);
        struct login *i, *next;

        HASH_FIND_STR(l->by_key, key, i);
        if (i) {
                free(key);
                return i;
        }
        if (HASH_COUNT(l->by_key) >= LOGIN_NAMES)
                DL_FOREACH_SAFE(l->quietest, i, next)
                {
                        if (i->pending == 0) {
                                forget(l, i);
                                break;
                        }
                }
        i = xcalloc(1, sizeof *i);
        i->key = key;
        HASH_ADD_KEYPTR(hh, l->by_key, i->key, strlen(i->key), i);
        DL_APPEND(l->quietest, i);
        return i;
}

int64_t logins_begin(struct logins *l, const char *organisation, const char *name, int64_t now_ms)
{
        struct login *i = get(l, organisation, name);

        if (i->pending == 0 && i->failures > 0 && now_ms - i->failed_ms > LOGIN_FORGET_MS)
                i->failures = 0;
        /* A clock that was put back does not lock anybody out for longer than the longest wait. */
        if (i->blocked_until_ms - now_ms > LOGIN_FIRST_WAIT_MS << LOGIN_LONGEST_SHIFT)
                i->blocked_until_ms = now_ms;
        if (i->blocked_until_ms > now_ms)
                return i->blocked_until_ms - now_ms;
        /* Many at once are no way around the count. */
        if (i->pending > 0 && i->failures + i->pending >= LOGIN_FREE_FAILURES)
                return 1000;
        i->pending++;
        return 0;
}

void logins_end(struct logins *l, const char *organisation, const char *name, bool right, int64_t now_ms)
{
        struct login *i = get(l, organisation, name);
        unsigned more;

        if (i->pending > 0)
                i->pending--;
        if (right) {
                i->failures = 0;
                if (i->pending == 0)
                        forget(l, i);
                return;
        }
        i->failures++;
        i->failed_ms = now_ms;
        DL_DELETE(l->quietest, i);
        DL_APPEND(l->quietest, i);
        if (i->failures < LOGIN_FREE_FAILURES)
                return;
        more = i->failures - LOGIN_FREE_FAILURES;
        if (more > LOGIN_LONGEST_SHIFT)
                more = LOGIN_LONGEST_SHIFT;
        i->blocked_until_ms = now_ms + (LOGIN_FIRST_WAIT_MS << more);
}

void logins_cancel(struct logins *l, const char *organisation, const char *name)
{
        struct login *i = get(l, organisation, name);

        if (i->pending > 0)
                i->pending--;
}
