/* Profiles as files: loading, finding, listing, and the one that is shipped. */
#include "net/profile.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD    "[profile]\nranges = 198.51.100.16/28\nroot-ca = root.pem\n"
#define SERVICE "[service repo]\nhost = repo.grid.example\nport = 443\ntls = server\n"

static char folder[] = "/tmp/gridnode-test-profile-XXXXXX";

static int make_folder(void **state)
{
        (void)state;
        if (!mkdtemp(folder) || chdir(folder) < 0 || mkdir("first", 0700) < 0 || mkdir("second", 0700) < 0)
                return -1;
        return 0;
}

static int remove_folder(void **state)
{
        (void)state;
        rmdir("first");
        rmdir("second");
        return chdir("/") == 0 ? rmdir(folder) : -1;
}

static void save(const char *path, const char *text)
{
        assert_int_equal(file_save(path, text, strlen(text), 0600, NULL), 0);
}

static void test_load(void **state)
{
        (void)state;
        _cleanup_free_ char *absolute = xasprintf("%s/first/root.pem", folder);
        struct profile *p = NULL;
        struct error e;

        save("first/a.profile", HEAD SERVICE);
        assert_int_equal(profile_load("first/a.profile", &p, &e), -EINVAL);
        assert_string_equal(e.text, "first/a.profile:3: [profile] root-ca = root.pem: cannot read "
                                    "first/root.pem: No such file or "
                                    "directory; put the root certificate there as PEM");
        assert_null(p);
        save("first/root.pem", "-");
        assert_int_equal(profile_load("first/a.profile", &p, &e), 0);
        assert_string_equal(p->root_ca_path, absolute);
        assert_string_equal(p->name, "a");
        p = profile_free(p);
        unlink("first/root.pem");
        assert_int_equal(mkdir("first/root.pem", 0700), 0);
        assert_int_equal(profile_load("first/a.profile", &p, &e), -EINVAL);
        assert_non_null(strstr(e.text, "Is a directory"));
        rmdir("first/root.pem");
        unlink("first/a.profile");
        assert_int_equal(profile_load("first/a.profile", &p, &e), -ENOENT);
        assert_string_equal(e.text, "cannot read first/a.profile: No such file or directory");
}

static void test_load_by_subject(void **state)
{
        (void)state;
        struct profile *p = NULL;
        struct error e;

        save("s.profile", "[profile]\nranges = 10.0.0.0/8\nroot-subject = CN = Root\n" SERVICE);
        assert_int_equal(profile_load("s.profile", &p, &e), 0);
        assert_string_equal(p->root_subject, "CN = Root");
        profile_free(p);
        unlink("s.profile");
}

static void assert_found(const char *name, const char *wanted)
{
        static const char *const folders[] = {"first", "missing", "second", NULL};
        char *path = NULL;
        struct error e;

        if (profile_find(name, folders, &path, &e) < 0)
                fail_msg("%s", e.text);
        assert_string_equal(path, wanted);
        free(path);
}

static void test_find(void **state)
{
        (void)state;
        static const char *const folders[] = {"first", "missing", "second", NULL}, *const none[] = {NULL};
        char *path = NULL;
        struct error e;

        save("first/both.profile", "");
        save("second/both.profile", "");
        save("second/one.profile", "");
        save("second/other.txt", "");
        assert_found("both", "first/both.profile");
        assert_found("one", "second/one.profile");
        assert_found("./x", "./x");
        assert_found("here.profile", "here.profile");
        assert_found("/p/x.profile", "/p/x.profile");
        assert_int_equal(profile_find("two\x1b", folders, &path, &e), -ENOENT);
        assert_string_equal(e.text, "no profile two\\x1b: there is no two\\x1b.profile in first, missing, "
                                    "second; there are: both, one");
        assert_string_equal(e.code, "config.no-profile");
        assert_int_equal(profile_find("", folders, &path, &e), -ENOENT);
        assert_int_equal(profile_find("x", none, &path, &e), -ENOENT);
        assert_string_equal(e.text, "no profile x: there is no x.profile in no folder; there are: none");
        assert_null(path);
}

static void test_list(void **state)
{
        (void)state;
        static const char *const folders[] = {"second", "first", "missing", NULL};
        struct strv names = {0};
        char *joined;

        save("first/.profile", "");
        save("first/.hidden.profile", "");
        profile_list(folders, &names);
        joined = strv_join(&names, " ");
        assert_string_equal(joined, "both one");
        free(joined);
        strv_done(&names);
        unlink("first/.profile");
        unlink("first/.hidden.profile");
        unlink("first/both.profile");
        unlink("second/both.profile");
        unlink("second/one.profile");
        unlink("second/other.txt");
}

static void test_shipped(void **state)
{
        (void)state;
        static const char *const names[] = {"repo", "keymaster", "gatekeeper", "zuul"};
        static const int ports[] = {443, 443, 8443, 8443};
        struct profile *p = NULL;
        struct error e;

        if (profile_load(SHIPPED_PROFILES "/trustgrid.profile", &p, &e) < 0)
                fail_msg("%s", e.text);
        assert_string_equal(p->name, "trustgrid");
        assert_int_equal(p->range_count, 2);
        assert_string_equal(p->root_subject, "O = TrustGrid Inc, CN = TrustGrid Root CA");
        assert_int_equal(p->service_count, 4);
        for (size_t i = 0; i < 4; i++) {
                _cleanup_free_ char *host = xasprintf("%s.trustgrid.io", names[i]);

                assert_string_equal(p->services[i].name, names[i]);
                assert_string_equal(p->services[i].host, host);
                assert_int_equal(p->services[i].port, ports[i]);
                assert_int_equal(p->services[i].tls, i < 2 ? SERVICE_TLS_SERVER : SERVICE_TLS_MUTUAL);
        }
        assert_int_equal(p->services[0].carries.count, 3);
        profile_free(p);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_load),
                cmocka_unit_test(test_load_by_subject),
                cmocka_unit_test(test_find),
                cmocka_unit_test(test_list),
                cmocka_unit_test(test_shipped),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
