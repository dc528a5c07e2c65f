/* What would keep the repositories of packages from working. The rest of the plane works without them. */
#include "plane/packages_internal.h"
#include "plane/preflight_internal.h"
#include "plane/services_internal.h"

#include "base/alloc.h"

#include <dirent.h>
#include <string.h>

#define DAY_MS INT64_C(86400000)
/* gpg-agent's longest socket below STATE/apt/ORGANISATION/gnupg, and what a socket's name may have (unix(7)).
 */
#define AGENT_SOCKET "/apt/o-0123456789abcdef/gnupg/S.gpg-agent.browser"
#define SOCKET_LIMIT 107

DEFINE_CLEANUP(DIR *, closedir);

static void check_programs(struct findings *f)
{
        static const struct {
                const char *name, *package;
        } programs[] = {{"reprepro", "reprepro"}, {"gpg", "gnupg"}, {"gpgconf", "gnupg"},
                {"gpg-agent", "gnupg"}, {"dpkg-deb", "dpkg"}};

        for (size_t i = 0; i < ELEMENTS(programs); i++) {
                _cleanup_free_ char *path = services_find_program(programs[i].name);

                if (!path)
                        finding_add(f, false, "repository.program",
                                "%s is not installed: no packages can be published to the nodes; install it "
                                "(Debian: %s)",
                                programs[i].name, programs[i].package);
        }
}

static void check_keys(const char *folder, const char *organisation, int64_t now_unix_ms, struct findings *f)
{
        struct package_keys keys;
        struct error e = {0};

        if (package_keys_load(folder, &keys, &e) < 0) {
                finding_add(f, false, "repository.keys",
                        "the repository of the organisation %s cannot be signed: %s", organisation, e.text);
                return;
        }
        if (keys.count > 0 &&
                now_unix_ms - keys.items[keys.count - 1].created_unix_ms > PACKAGES_KEY_OLD_DAYS * DAY_MS)
                finding_add(f, false, "repository.key-old",
                        "the key of the repository of the organisation %s is older than %d days; make a new "
                        "one: gridplane package key rotate --org %s",
                        organisation, PACKAGES_KEY_OLD_DAYS, organisation);
        if (keys.count > 1 && keys.items[0].retires_unix_ms - now_unix_ms < 3 * DAY_MS)
                finding_add(f, false, "repository.key-retires",
                        "a former key of the repository of the organisation %s is dropped within 3 days: "
                        "nodes that were not there since the rotation must be registered anew then",
                        organisation);
}

static void check_signatures(
        const struct plane_settings *s, const char *organisation, int64_t now_unix_ms, struct findings *f)
{
        for (int i = 0; i < CHANNEL_COUNT; i++) {
                int64_t at = packages_signed_unix(s, organisation, (enum package_channel)i);

                if (at > 0 && now_unix_ms / 1000 - at > PACKAGES_VALID_DAYS * DAY_MS / 1000) {
                        finding_add(f, false, "repository.expired",
                                "the repository of the organisation %s was signed more than %d days ago, and "
                                "nodes refuse it; gridplane serve signs it anew each day while it runs: see "
                                "its log if this stays",
                                organisation, PACKAGES_VALID_DAYS);
                        return;
                }
        }
}

void preflight_packages(const struct plane_settings *s, int64_t now_unix_ms, struct findings *f)
{
        _cleanup_free_ char *apt = path_join(s->paths.state, "apt");
        _cleanup_(closedir_p) DIR *d = opendir(apt);
        struct dirent *entry;

        check_programs(f);
        if (strlen(s->paths.state) + strlen(AGENT_SOCKET) > SOCKET_LIMIT)
                finding_add(f, false, "repository.path",
                        "%s is too long a name for the sockets of gpg's agent below it: no packages can be "
                        "published; choose a --root that is %zu bytes shorter",
                        s->paths.state, strlen(s->paths.state) + strlen(AGENT_SOCKET) - SOCKET_LIMIT);
        while (d && (entry = readdir(d))) {
                _cleanup_free_ char *folder = path_join(apt, entry->d_name);

                if (entry->d_name[0] == '.')
                        continue;
                check_keys(folder, entry->d_name, now_unix_ms, f);
                check_signatures(s, entry->d_name, now_unix_ms, f);
        }
}
