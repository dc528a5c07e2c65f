#include "plane/store.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>

static const char *const names[] = {
        [ROLE_VIEWER] = "viewer", [ROLE_OPERATOR] = "operator", [ROLE_ADMIN] = "admin"};

const char *role_to_string(enum role r)
{
        return names[r];
}

int role_from_string(const char *s, enum role *ret)
{
        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (str_equal(s, names[i])) {
                        *ret = (enum role)i;
                        return 0;
                }
        return -EINVAL;
}
