/* The node's side of a session: site file, profile, and what measures. */
#include "cli/session.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "cli/stop.h"
#include "node/settings.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

#define PROFILE_FOLDERS 32

/* The folders in which profiles are looked up: NULL-terminated, static. */
static const char *const *profile_folders(const struct session *s)
{
        static const char *folders[PROFILE_FOLDERS + 4];
        static char *given;
        static struct paths paths;
        size_t count = 0;
        const char *path = getenv("GRIDNODE_PROFILE_PATH");

        if (folders[0])
                return folders;
        if (path) {
                given = strdup(path);
                for (char *rest = given, *f; (f = strsep(&rest, ":")) && count < PROFILE_FOLDERS;)
                        if (*f)
                                folders[count++] = f;
        }
        paths_init(&paths, s->settings.root, "gridnode");
        folders[count++] = path_join(paths.etc, "profiles");
        folders[count++] = paths.state; /* as registered */
        folders[count++] = GRIDNODE_DATA_DIR "/profiles";
        return folders;
}

static int load_site(struct session *s)
{
        struct error e = {0};
        struct paths paths;
        _cleanup_free_ char *path = NULL;
        int r = 0;

        paths_init(&paths, s->settings.root, "gridnode");
        path = s->settings.config_path ? xstrdup(s->settings.config_path) : settings_site_path(&paths);
        if (path)
                r = site_load(path, &s->site, &e);
        else
                s->site = site_new_default();
        if (r == 0) {
                site_apply_machine_defaults(s->site, NULL);
                settings_place_identity(s->site, &paths);
        }
        paths_done(&paths);
        return r < 0 ? session_fail(s, EX_CONFIG, "%s", e.text) : EXIT_SUCCESS;
}

/* --profile, the site file's, or the one that the node was registered with. The caller's; NULL: none. */
static char *name_profile(const struct session *s)
{
        struct paths paths;
        char *registered;

        if (s->settings.profile)
                return xstrdup(s->settings.profile);
        if (s->site && s->site->profile)
                return xstrdup(s->site->profile);
        if (s->settings.config_path)
                return NULL;
        paths_init(&paths, s->settings.root, "gridnode");
        registered = settings_registered_profile(&paths);
        paths_done(&paths);
        return registered;
}

static int load_profile(struct session *s)
{
        struct error e = {0};
        _cleanup_free_ char *path = NULL, *name = name_profile(s);

        if (!name)
                return EXIT_SUCCESS;
        if (profile_find(name, profile_folders(s), &path, &e) < 0 || profile_load(path, &s->profile, &e) < 0)
                return session_fail(s, EX_CONFIG, "%s", e.text);
        return EXIT_SUCCESS;
}

int session_prepare(struct session *s)
{
        int status = EXIT_SUCCESS;

        /* A replay concludes from the stored report alone. */
        if (s->settings.replay_path)
                return EXIT_SUCCESS;
        if (s->settings.interface && if_nametoindex(s->settings.interface) == 0)
                return session_usage_error(s, "there is no interface '%s'", s->settings.interface);
        if (s->command->needs & NEEDS_SITE)
                status = load_site(s);
        if (status == EXIT_SUCCESS && s->command->needs & NEEDS_PROFILE)
                status = load_profile(s);
        return status;
}

static bool binds_to_device(const struct session *s)
{
        for (size_t i = 0; i < s->command->option_count; i++)
                if (s->command->options[i] == OPTION_DEVICE)
                        return s->settings.interface != NULL;
        return false;
}

void session_wan_interface(const struct session *s, char ret[IFNAMSIZ])
{
        const char *named = s->settings.interface ? s->settings.interface : s->site->wan.interface;

        str_copy(ret, IFNAMSIZ, named);
        if (!named[0])
                measure_default_wan(ret, NULL);
}

/* --source; with --interface what the kernel chooses there; else the WAN's address. Unset where there is
 * none. */
static void choose_source(const struct session *s, struct inet_addr *ret)
{
        char wan[IFNAMSIZ];

        if (inet_addr_is_set(&s->settings.source))
                *ret = s->settings.source;
        else if (binds_to_device(s))
                return;
        else if (s->site->wan.mode == SITE_ADDRESS_STATIC && !s->settings.interface)
                *ret = s->site->wan.address.address;
        else if (s->settings.interface || s->site->wan.interface[0]) {
                session_wan_interface(s, wan);
                measure_interface_address(wan, AF_INET, ret);
        } else
                measure_default_wan(wan, ret);
}

int session_measure(struct session *s, const struct trust_options *trust, struct measure **ret)
{
        struct measure_options o;
        struct error e = {0};
        int r;

        s->stop_fd = stop_watch();
        o = (struct measure_options){.device = binds_to_device(s) ? s->settings.interface : NULL,
                .wan_interface = s->site->wan.interface[0] ? s->site->wan.interface : NULL,
                .budget_ms = (s->settings.budget_s > 0 ? s->settings.budget_s : 5) * 1000,
                .stop_fd = s->stop_fd,
                .capture = !s->settings.no_capture,
                .trust = trust};
        choose_source(s, &o.source);
        r = measure_new(&o, ret, &e);
        if (r == -ENODEV)
                return session_usage_error(s, "%s", e.text);
        if (r == -EPERM || r == -EACCES)
                return session_fail(s, EX_NOPERM, "%s", e.text);
        if (r < 0)
                return session_fail(s, trust ? EX_CONFIG : EXIT_FAILURE, "%s", e.text);
        return EXIT_SUCCESS;
}
