#include "update/world.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/paths.h"
#include "base/text.h"

#include <string.h>

/* The first two kinds differ in what they know; the third has the second's lists and archives. */
static const char *const folders[] = {"own", "security", "security"};
static const char *const names[] = {"own", "security", "unattended"};

void world_done(struct world *w)
{
        free(w->settings);
        free(w->sources);
        free(w->lists);
        free(w->archives);
        free(w->status);
        free(w->method);
        *w = (struct world){0};
}

/* apt.conf(5): what APT_CONFIG names is read first, so that it says whether the machine's own is read. */
static void add_closed(struct text *t)
{
        text_add(t, "Dir::Etc::main \"/dev/null\";\n"
                    "Dir::Etc::parts \"/dev/null\";\n"
                    "Dir::Etc::preferences \"/dev/null\";\n"
                    "Dir::Etc::preferencesparts \"/dev/null\";\n");
}

char *world_settings(enum world_kind kind, const struct world *w, const char *cache)
{
        struct text t = {0};

        text_add(&t, "// Written anew for each update.\n");
        if (kind != WORLD_UNATTENDED)
                add_closed(&t);
        text_addf(&t,
                "Dir::Etc::sourcelist \"%s\";\n"
                "Dir::Etc::sourceparts \"/dev/null\";\n"
                "Dir::Etc::trusted \"/dev/null\";\n"
                "Dir::Etc::trustedparts \"/dev/null\";\n"
                "Dir::State::lists \"%s/\";\n"
                "Dir::Cache \"%s/\";\n"
                "Dir::Cache::archives \"%s/\";\n",
                w->sources, w->lists, cache, w->archives);
        if (w->method)
                text_addf(&t, "Dir::Bin::Methods::gridnode \"%s\";\n", w->method);
        text_add(&t, "APT::Get::Assume-Yes \"true\";\n"
                     "APT::Get::AllowUnauthenticated \"false\";\n"
                     "APT::Install-Recommends \"false\";\n"
                     "APT::Get::List-Cleanup \"true\";\n"
                     "APT::Color \"0\";\n"
                     "Acquire::AllowInsecureRepositories \"false\";\n"
                     "Acquire::AllowDowngradeToInsecureRepositories \"false\";\n"
                     /* Who may say what the repository is, is who signs it; for apt an origin that was wrong
                      * once could never be set right. That of the security channel is checked each time. */
                     "Acquire::AllowReleaseInfoChange \"true\";\n"
                     "Acquire::Languages \"none\";\n"
                     "Acquire::Retries \"0\";\n"
                     "Acquire::gridnode::Priority \"updates\";\n"
                     "Dpkg::Use-Pty \"false\";\n"
                     "Dpkg::Progress-Fancy \"false\";\n"
                     "DPkg::Lock::Timeout \"60\";\n"
                     "DPkg::Options { \"--force-confdef\"; \"--force-confold\"; };\n");
        return text_take(&t);
}

static int write_files(enum world_kind kind, const struct repository *r, const char *suite, const char *cache,
        const struct world *w, struct error *ret_error)
{
        _cleanup_free_ char *settings = world_settings(kind, w, cache),
                            *sources = xasprintf("deb [signed-by=%s] gridnode://%s/debian %s main\n",
                                    r->keyring, r->host, suite);
        int result = file_save(w->sources, sources, strlen(sources), 0644, ret_error);

        return result < 0 ? result : file_save(w->settings, settings, strlen(settings), 0644, ret_error);
}

int world_make(enum world_kind kind, const struct update_place *p, const struct repository *r,
        const char *channel, struct world *ret, struct error *ret_error)
{
        _cleanup_free_ char *cache = path_join(p->apt, folders[kind]), *lists_partial = NULL,
                            *archives_partial = NULL, *method = path_join(p->bin, UPDATE_METHOD);
        _cleanup_(world_done) struct world w = {0};
        int result;

        w.settings = xasprintf("%s/%s.conf", p->apt, names[kind]);
        w.sources = xasprintf("%s/%s.list", p->apt, names[kind]);
        w.status = xasprintf("%s/%s.status", p->apt, names[kind]);
        if (access(method, X_OK) == 0)
                w.method = TAKE_PTR(method);
        w.lists = path_join(cache, "lists");
        w.archives = path_join(cache, "archives");
        lists_partial = path_join(w.lists, "partial");
        archives_partial = path_join(w.archives, "partial");
        /* `partial` is given to _apt by apt itself. */
        result = folder_prepare(w.lists, 0755, ret_error);
        if (result == 0)
                result = folder_prepare(w.archives, 0755, ret_error);
        if (result == 0 && access(lists_partial, F_OK) < 0)
                result = folder_prepare(lists_partial, 0700, ret_error);
        if (result == 0 && access(archives_partial, F_OK) < 0)
                result = folder_prepare(archives_partial, 0700, ret_error);
        if (result == 0)
                result = write_files(
                        kind, r, kind == WORLD_OWN ? channel : WORLD_SECURITY_SUITE, cache, &w, ret_error);
        if (result < 0)
                return result;
        *ret = w;
        w = (struct world){0};
        return 0;
}
