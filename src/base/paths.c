#include "base/paths.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <limits.h>
#include <string.h>

/* What goes before "/etc": "" for the system itself. */
static char *absolute(const char *root)
{
        _cleanup_free_ char *current = NULL;
        size_t length;
        char *s;

        if (!root)
                return xstrdup("");
        current = root[0] == '/' ? NULL : getcwd(NULL, 0);
        s = current ? path_join(current, root) : xstrdup(root);
        length = strlen(s);
        while (length > 0 && s[length - 1] == '/')
                s[--length] = '\0';
        return s;
}

void paths_init(struct paths *p, const char *root, const char *program)
{
        _cleanup_free_ char *before = absolute(root);

        p->etc = xasprintf("%s/etc/%s", before, program);
        p->state = xasprintf("%s/var/lib/%s", before, program);
        p->run = xasprintf("%s/run/%s", before, program);
}

void paths_done(struct paths *p)
{
        free(p->etc);
        free(p->state);
        free(p->run);
        *p = (struct paths){0};
}

char *path_join(const char *folder, const char *name)
{
        return xasprintf("%s%s%s", folder, str_ends_with(folder, "/") ? "" : "/", name);
}

char *path_of_program(const char *beside, const char *installed)
{
        char self[PATH_MAX], *slash, *path;
        ssize_t length = readlink("/proc/self/exe", self, sizeof self - 1);

        if (length <= 0)
                return xstrdup(installed);
        self[length] = 0;
        slash = strrchr(self, '/');
        path = xasprintf("%.*s/%s", slash ? (int)(slash - self) : 0, self, beside);
        if (access(path, X_OK) == 0)
                return path;
        free(path);
        return xstrdup(installed);
}
