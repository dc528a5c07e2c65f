#include "plane/api_login.h"

#include "base/alloc.h"
#include "plane/password.h"

#include <stdlib.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

struct login {
        char *key;
        unsigned failures;
        int64_t blocked_until_ms;
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
        struct login *i;

        HASH_FIND_STR(l->by_key, key, i);
        if (i) {
                free(key);
                DL_DELETE(l->quietest, i);
                DL_APPEND(l->quietest, i);
                return i;
        }
        if (HASH_COUNT(l->by_key) >= LOGIN_NAMES)
                forget(l, l->quietest);
        i = xcalloc(1, sizeof *i);
        i->key = key;
        HASH_ADD_KEYPTR(hh, l->by_key, i->key, strlen(i->key), i);
        DL_APPEND(l->quietest, i);
        return i;
}

int64_t logins_try(struct logins *l, const char *organisation, const char *name, int64_t now_ms)
{
        struct login *i = get(l, organisation, name);

        if (i->blocked_until_ms > now_ms)
                return i->blocked_until_ms - now_ms;
        i->failures++;
        i->blocked_until_ms = now_ms + password_delay_ms(i->failures);
        return 0;
}
