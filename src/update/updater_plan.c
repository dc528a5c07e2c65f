/* What would change, and what of it is still to be fetched. */
#include "update/updater.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#define MAX_FILES     1024
#define MAX_ARGUMENTS 16

struct planning {
        struct updater *u;
        bool security;
};

/* pool/…/NAME_VERSION_ARCH.deb: versions have %3a for a colon there. */
static uint64_t bytes_of(const struct updater *u, const char *name)
{
        size_t length = strlen(name);

        for (size_t i = 0; i < u->file_count; i++)
                if (strncmp(u->files[i].file, name, length) == 0 && u->files[i].file[length] == '_')
                        return u->files[i].bytes;
        return 0;
}

static void on_change(const char *line, void *userdata)
{
        const struct planning *p = userdata;
        struct update_state *s = &p->u->journal.state;
        struct update_package package;

        if (!apt_text_change(line, &package) || s->package_count == UPDATE_MAX_PACKAGES)
                return;
        package.security = p->security;
        package.bytes = bytes_of(p->u, package.name);
        s->packages = xrealloc_array(s->packages, s->package_count + 1, sizeof *s->packages);
        s->packages[s->package_count++] = package;
}

static void on_uri(const char *line, void *userdata)
{
        struct updater *u = ((struct planning *)userdata)->u;
        struct apt_file file;
        int64_t space;

        if (apt_text_space(line, &space))
                u->space_bytes = space;
        if (!apt_text_file(line, &file) || u->file_count == MAX_FILES)
                return;
        u->files = xrealloc_array(u->files, u->file_count + 1, sizeof *u->files);
        u->files[u->file_count++] = file;
}

static int ask(struct updater *u, const struct world *w, const char *how, const char *const *what,
        void (*on_line)(const char *, void *), struct planning *p)
{
        const char *arguments[MAX_ARGUMENTS] = {how};
        int r;

        for (size_t i = 0; what[i] && i + 2 < MAX_ARGUMENTS; i++)
                arguments[i + 1] = what[i];
        r = updater_apt(u, w, 0, arguments, on_line, p);
        return r <= 0 ? r : updater_explain(u, "the plan of what would change");
}

int updater_plan(struct updater *u, const struct world *w, bool security, const char *const *what)
{
        struct planning p = {.u = u, .security = security};
        size_t known = u->journal.state.package_count;
        int r = -EIO;

        for (unsigned i = 0; i == 0 || (r < 0 && updater_was_killed(u) && i < UPDATER_ATTEMPTS); i++) {
                u->file_count = 0;
                u->space_bytes = 0;
                u->journal.state.package_count = known;
                r = ask(u, w, "--print-uris", what, on_uri, &p);
                if (r == 0)
                        r = ask(u, w, "--simulate", what, on_change, &p);
        }
        return r;
}
