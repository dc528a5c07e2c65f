#include "update/world.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static char root[] = "/tmp/gridnode-world-XXXXXX";

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *at)
{
        (void)st;
        (void)type;
        (void)at;
        return remove(path);
}

static int set_up(void **state)
{
        (void)state;
        memcpy(root + strlen(root) - 6, "XXXXXX", 6);
        return mkdtemp(root) ? 0 : -1;
}

static int tear_down(void **state)
{
        (void)state;
        return nftw(root, remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

static const char identity[] =
        "{\"node\":\"n-1\",\"name\":\"branch-12\",\"organisation\":\"default\",\"profile\":\"grid\"}";
static const char profile[] =
        "[profile]\nname = grid\nranges = 198.51.100.16/28\nroot-subject = O = Grid, CN = Root\n"
        "[service control]\nhost = control.grid.example\nport = 8443\ntls = mutual\n"
        "carries = control;config\n"
        "[service repo]\nhost = repo.grid.example\nport = 443\ntls = server\n"
        "carries = updates;images;logs\n";

static void put(const char *name, const char *text)
{
        _cleanup_free_ char *folder = xasprintf("%s/var/lib/gridnode", root),
                            *path = xasprintf("%s/%s", folder, name), *lib = xasprintf("%s/var/lib", root),
                            *var = xasprintf("%s/var", root);
        struct error e;

        mkdir(var, 0755);
        mkdir(lib, 0755);
        mkdir(folder, 0755);
        assert_int_equal(file_save(path, text, strlen(text), 0600, &e), 0);
}

static void test_repository(void **state)
{
        (void)state;
        struct repository r = {0};
        struct error e;

        assert_int_equal(repository_load(root, &r, &e), -ENOENT);
        assert_non_null(strstr(e.text, "gridnode register"));
        put("identity.json", identity);
        put("grid.profile", profile);
        assert_int_equal(repository_load(root, &r, &e), 0);
        assert_string_equal(r.host, "repo.grid.example");
        assert_string_equal(r.service, "repo");
        assert_int_equal(r.port, 443);
        assert_true(str_ends_with(r.keyring, "/etc/gridnode/repo-keyring.gpg"));
        assert_int_equal(repository_certificate_begin(&r), 0);
        repository_done(&r);
}

/* The files are the gridnode user's: whatever it puts there, root reads nothing else for it, and tells
 * nothing. */
static void test_hostile_files(void **state)
{
        (void)state;
        static const char *const identities[] = {"", "[]", "{\"profile\":\"../../../etc/shadow\"}",
                "{\"profile\":7}", "{\"profile\":\"\"}", "{\"profile\":\"a/b\"}"};
        _cleanup_free_ char *at = xasprintf("%s/var/lib/gridnode/grid.profile", root),
                            *secret = xasprintf("%s/secret", root);
        struct repository r = {0};
        struct error e;

        put("grid.profile", profile);
        for (size_t i = 0; i < sizeof identities / sizeof identities[0]; i++) {
                put("identity.json", identities[i]);
                assert_int_equal(repository_load(root, &r, &e), -EINVAL);
        }
        put("identity.json", identity);
        assert_int_equal(file_save(secret, profile, strlen(profile), 0600, &e), 0);
        assert_int_equal(remove(at), 0);
        assert_int_equal(symlink(secret, at), 0);
        assert_int_equal(repository_load(root, &r, &e), -EINVAL);
        assert_int_equal(remove(at), 0);
        assert_int_equal(mkfifo(at, 0600), 0);
        assert_int_equal(repository_load(root, &r, &e), -EINVAL);
        assert_int_equal(remove(at), 0);
        put("grid.profile", "root:$6$secret:19000:0:99999:7:::\n");
        assert_int_equal(repository_load(root, &r, &e), -EINVAL);
        assert_null(strstr(e.text, "secret"));
        put("grid.profile",
                "[profile]\nname = grid\n[service repo]\nhost = repo.grid.example\nport = 443\ntls = server\n"
                "carries = images\n");
        assert_int_equal(repository_load(root, &r, &e), -EINVAL);
}

static void test_files(void **state)
{
        (void)state;
        struct repository r = {
                .host = "repo.grid.example", .keyring = xstrdup("/etc/gridnode/repo-keyring.gpg")};
        _cleanup_(update_place_done) struct update_place p;
        _cleanup_(world_done) struct world own = {0}, security = {0};
        _cleanup_free_ char *text = NULL, *settings = NULL;
        struct error e;
        size_t length;

        update_place_init(&p, root);
        assert_int_equal(update_place_prepare(&p, &e), 0);
        assert_int_equal(world_make(WORLD_OWN, &p, &r, "testing", &own, &e), 0);
        assert_int_equal(file_read(own.sources, 4096, &text, &length, &e), 0);
        assert_string_equal(text,
                "deb [signed-by=/etc/gridnode/repo-keyring.gpg] gridnode://repo.grid.example/debian "
                "testing main\n");
        free(text);
        assert_int_equal(world_make(WORLD_SECURITY, &p, &r, NULL, &security, &e), 0);
        assert_int_equal(file_read(security.sources, 4096, &text, &length, &e), 0);
        assert_non_null(strstr(text, "/debian security main\n"));
        assert_string_not_equal(own.lists, security.lists);
        assert_int_equal(file_read(own.settings, 65536, &settings, &length, &e), 0);
        /* Neither the machine's sources, nor its keys, nor its hooks. */
        assert_non_null(strstr(settings, "Dir::Etc::sourceparts \"/dev/null\";"));
        assert_non_null(strstr(settings, "Dir::Etc::trustedparts \"/dev/null\";"));
        assert_non_null(strstr(settings, "Dir::Etc::parts \"/dev/null\";"));
        assert_non_null(strstr(settings, "--force-confold"));
        repository_done(&r);
}

/* unattended-upgrades' rules are among the machine's settings: those are read, its sources are not. */
static void test_unattended(void **state)
{
        (void)state;
        struct world w = {.sources = (char *)"/s", .lists = (char *)"/l", .archives = (char *)"/a"};
        _cleanup_free_ char *text = world_settings(WORLD_UNATTENDED, &w, "/c");

        assert_null(strstr(text, "Dir::Etc::parts"));
        assert_null(strstr(text, "Dir::Bin::"));
        assert_non_null(strstr(text, "Dir::Etc::sourcelist \"/s\";"));
        assert_non_null(strstr(text, "Dir::Etc::sourceparts \"/dev/null\";"));
}

/* A node that runs from where it was built brings apt's method along; one that is installed does not. */
static void test_a_method_that_is_not_installed(void **state)
{
        (void)state;
        struct repository r = {.host = "repo.grid.example", .keyring = (char *)"/k"};
        _cleanup_(update_place_done) struct update_place p;
        _cleanup_(world_done) struct world without = {0}, with = {0};
        _cleanup_free_ char *method = NULL, *text = NULL, *line = NULL;
        struct error e;
        size_t length;

        update_place_init(&p, root);
        assert_int_equal(update_place_prepare(&p, &e), 0);
        assert_int_equal(world_make(WORLD_OWN, &p, &r, "stable", &without, &e), 0);
        assert_null(without.method);
        method = xasprintf("%s/" UPDATE_METHOD, p.bin);
        assert_int_equal(file_save(method, "", 0, 0755, &e), 0);
        assert_int_equal(world_make(WORLD_OWN, &p, &r, "stable", &with, &e), 0);
        assert_int_equal(file_read(with.settings, 65536, &text, &length, &e), 0);
        line = xasprintf("Dir::Bin::Methods::gridnode \"%s\";\n", method);
        assert_non_null(strstr(text, line));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_repository, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_hostile_files, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_files, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_unattended, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_a_method_that_is_not_installed, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
