#include "update/apt_text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <string.h>

static void test_changes(void **state)
{
        (void)state;
        struct update_package p;

        assert_true(apt_text_change("Inst gridnode [0.1.0] (0.2.0 gridnode:stable [amd64])", &p));
        assert_string_equal(p.name, "gridnode");
        assert_string_equal(p.from, "0.1.0");
        assert_string_equal(p.to, "0.2.0");
        assert_true(apt_text_change(
                "Inst libfoo2 (1:2.3-1+b1 Debian-Security:12/stable-security [amd64]) []", &p));
        assert_string_equal(p.name, "libfoo2");
        assert_string_equal(p.from, "");
        assert_string_equal(p.to, "1:2.3-1+b1");
        assert_true(apt_text_change(
                "Inst linux-image-6.1.0-38-amd64 (6.1.147-1 Debian-Security:12/oldstable-security [amd64])",
                &p));
        assert_string_equal(p.name, "linux-image-6.1.0-38-amd64");
        assert_string_equal(p.to, "6.1.147-1");
}

static void test_what_is_no_change(void **state)
{
        static const char *const lines[] = {"", "Inst", "Inst ", "Inst gridnode", "Inst gridnode ",
                "Inst gridnode [", "Inst gridnode [0.1", "Inst gridnode [0.1]", "Inst gridnode [0.1] ",
                "Inst gridnode [0.1] (", "Inst gridnode [0.1] ()", "Inst gridnode []  (0.2 x)",
                "Conf gridnode (0.2.0 gridnode:stable [amd64])", "Remv gridnode [0.1.0]",
                "Inst grid\x1b[2Jnode (1 x)", "Inst gridnode (1\x07 x)", " Inst gridnode (1 x)"};
        struct update_package p = {.name = "untouched"};
        char name[300];
        (void)state;

        for (size_t i = 0; i < sizeof lines / sizeof lines[0]; i++)
                assert_false(apt_text_change(lines[i], &p));
        memset(name, 'a', sizeof name);
        memcpy(name, "Inst ", 5);
        memcpy(name + 200, " (1 x)", 7);
        assert_false(apt_text_change(name, &p));
        assert_string_equal(p.name, "untouched");
}

static void test_files(void **state)
{
        (void)state;
        struct apt_file f;

        assert_true(apt_text_file(
                "'gridnode://repo.grid.example/debian/pool/main/g/gridnode/gridnode_0.2.0_amd64.deb' "
                "gridnode_0.2.0_amd64.deb 1830412 SHA256:00ff",
                &f));
        assert_string_equal(f.file, "gridnode_0.2.0_amd64.deb");
        assert_string_equal(
                f.uri, "gridnode://repo.grid.example/debian/pool/main/g/gridnode/gridnode_0.2.0_amd64.deb");
        assert_int_equal(f.bytes, 1830412);
        assert_true(apt_text_file("'http://x/y' y_1%3a2_all.deb 7 ", &f));
        assert_string_equal(f.file, "y_1%3a2_all.deb");
        assert_int_equal(f.bytes, 7);
        assert_true(apt_text_file("'http://x/y' y_1_all.deb 7", &f));
        /* What would lead out of the folder, or is none. */
        assert_false(apt_text_file("'http://x/y' ../y 7 SHA256:00", &f));
        assert_false(apt_text_file("'http://x/y' .. 7 SHA256:00", &f));
        assert_false(apt_text_file("'http://x/y' a/b 7 SHA256:00", &f));
        assert_false(apt_text_file("'http://x/y' y -7 SHA256:00", &f));
        assert_false(apt_text_file("'http://x/y' y 99999999999999999999 SHA256:00", &f));
        assert_false(apt_text_file("'http://x/y", &f));
        assert_false(apt_text_file("''", &f));
        assert_false(apt_text_file("", &f));
        assert_false(apt_text_file("Need to get 18.3 kB of archives.", &f));
}

static void test_space(void **state)
{
        (void)state;
        int64_t bytes = 0;

        assert_true(apt_text_space(
                "After this operation, 38.9 kB of additional disk space will be used.", &bytes));
        assert_int_equal(bytes, 38900);
        assert_true(apt_text_space("After this operation, 1,024 B disk space will be freed.", &bytes));
        assert_int_equal(bytes, -1024);
        assert_true(apt_text_space(
                "After this operation, 2.5 GB of additional disk space will be used.", &bytes));
        assert_int_equal(bytes, 2500000000);
        assert_false(apt_text_space(
                "After this operation, many kB of additional disk space will be used.", &bytes));
        assert_false(apt_text_space("After this operation, 7 XB", &bytes));
        assert_false(apt_text_space("Need to get 18.3 kB of archives.", &bytes));
        assert_true(apt_text_space("After this operation, 99999999999999999999 TB of additional", &bytes));
        assert_true(bytes > 0);
}

static void test_status(void **state)
{
        (void)state;
        struct apt_status s;

        assert_true(apt_text_status("dlstatus:1:12.5:Retrieving file 1 of 2 (3s remaining)", &s));
        assert_int_equal(s.kind, APT_STATUS_DOWNLOAD);
        assert_true(s.percent > 12.4 && s.percent < 12.6);
        assert_true(apt_text_status("pmstatus:gridnode:50.0000:Unpacking gridnode (amd64)", &s));
        assert_int_equal(s.kind, APT_STATUS_INSTALL);
        assert_string_equal(s.package, "gridnode");
        assert_string_equal(s.text, "Unpacking gridnode (amd64)");
        assert_true(apt_text_status(
                "pmerror:libc6:amd64:80.0:installed post-installation script: exit status 1", &s));
        assert_int_equal(s.kind, APT_STATUS_ERROR);
        assert_string_equal(s.package, "libc6");
        assert_true(s.percent > 79 && s.percent < 81);
        assert_true(apt_text_status("pmstatus:x:5000:\x1b[31m", &s));
        assert_true(s.percent <= 100);
        assert_string_equal(s.text, "?[31m");
        assert_false(apt_text_status("pmstatus:", &s));
        assert_false(apt_text_status("pmstatus:gridnode", &s));
        assert_false(apt_text_status("pmstatus:gridnode:abc:x", &s));
        assert_false(apt_text_status("", &s));
        assert_false(apt_text_status("media-change: x", &s));
}

/* ---- why a run failed: lines as apt-get of Debian 12 prints them ---- */

static struct apt_complaints all_of(const char *const *lines)
{
        struct apt_complaints c = {0};

        for (; *lines; lines++)
                apt_complaints_take(&c, *lines);
        return c;
}

#define COMPLAINTS(...) all_of((const char *const[]){__VA_ARGS__, NULL})

static void test_a_way_that_is_blocked(void **state)
{
        (void)state;
        struct apt_complaints c = COMPLAINTS("Err:1 gridnode://repo.grid.example/debian stable InRelease",
                "  443 to repo.grid.example is dropped after 192.0.2.1: TCP to 198.51.100.20",
                "Reading package lists...",
                "E: Failed to fetch gridnode://repo.grid.example/debian/dists/stable/InRelease  443 to "
                "repo.grid.example is dropped after 192.0.2.1: TCP to 198.51.100.20",
                "E: Some index files failed to download. They have been ignored, or old ones used instead.");

        assert_int_equal(c.failure, APT_FAILURE_WAY);
        assert_false(apt_failure_is_permanent(c.failure));
        assert_string_equal(
                c.text, "443 to repo.grid.example is dropped after 192.0.2.1: TCP to 198.51.100.20");
}

static void test_permanent_ones(void **state)
{
        (void)state;
        static const struct {
                const char *line;
                enum apt_failure failure;
        } cases[] = {
                {"E: The repository 'gridnode://r/debian stable InRelease' is not signed.",
                        APT_FAILURE_SIGNATURE},
                {"W: GPG error: gridnode://r/debian stable InRelease: The following signatures couldn't be "
                 "verified "
                 "because the public key is not available: NO_PUBKEY 0123456789ABCDEF",
                        APT_FAILURE_SIGNATURE},
                {"E: Failed to fetch gridnode://r/debian/dists/stable/InRelease  The following signatures "
                 "were invalid: "
                 "BADSIG 0123456789ABCDEF gridnode",
                        APT_FAILURE_SIGNATURE},
                {"E: Release file for gridnode://r/debian/dists/stable/InRelease is expired (invalid since "
                 "3d 2h 1min 0s). "
                 "Updates for this repository will not be applied.",
                        APT_FAILURE_EXPIRED},
                {"E: Release file for gridnode://r/debian/dists/stable/InRelease is not valid yet (invalid "
                 "for another 2h "
                 "0min 0s). Updates for this repository will not be applied.",
                        APT_FAILURE_EARLY},
                {"E: Failed to fetch gridnode://r/debian/pool/x.deb  Hash Sum mismatch", APT_FAILURE_HASH},
                {"E: Failed to fetch gridnode://r/debian/pool/x.deb  File has unexpected size (5 != 7). "
                 "Mirror sync in "
                 "progress? [IP: 198.51.100.20 443]",
                        APT_FAILURE_HASH},
                {"E: Failed to fetch gridnode://r/debian/pool/x.deb  404  Not Found [IP: 198.51.100.20 443]",
                        APT_FAILURE_NOT_FOUND},
                {"E: The repository 'gridnode://r/debian nosuch Release' does not have a Release file.",
                        APT_FAILURE_NOT_FOUND},
                {"E: Unable to locate package gridnode", APT_FAILURE_NOT_FOUND},
                {"E: Version '7' for 'gridnode' was not found", APT_FAILURE_NOT_FOUND},
                {"E: You don't have enough free space in /var/cache/apt/archives/.", APT_FAILURE_DISK},
                {"E: Unable to correct problems, you have held broken packages.", APT_FAILURE_DEPENDS},
                {"E: Sub-process /usr/bin/dpkg returned an error code (1)", APT_FAILURE_DPKG},
                {"dpkg: error processing package gridnode (--configure):", APT_FAILURE_DPKG},
                {"E: dpkg was interrupted, you must manually run 'dpkg --configure -a' to correct the "
                 "problem.",
                        APT_FAILURE_INTERRUPTED},
                {"E: The method driver /usr/lib/apt/methods/gridnode could not be found.",
                        APT_FAILURE_METHOD},
                {"E: Something that nobody has heard of", APT_FAILURE_OTHER},
        };

        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                struct apt_complaints c = COMPLAINTS(cases[i].line);

                if (c.failure != cases[i].failure)
                        fail_msg("%s: %s", cases[i].line, apt_failure_to_string(c.failure));
                assert_true(apt_failure_is_permanent(c.failure));
                assert_true(c.text[0]);
        }
}

static void test_transient_ones(void **state)
{
        (void)state;
        static const struct {
                const char *line;
                enum apt_failure failure;
        } cases[] = {
                {"E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 812 "
                 "(unattended-upgr)",
                        APT_FAILURE_LOCK},
                {"E: Unable to lock directory /var/lib/apt/lists/", APT_FAILURE_LOCK},
                {"E: Failed to fetch gridnode://r/debian/dists/stable/InRelease  no DNS server answered for "
                 "r",
                        APT_FAILURE_LOOK_UP},
                {"E: Failed to fetch gridnode://r/debian/pool/x.deb  r answers with status 503",
                        APT_FAILURE_WAY},
                {"W: Failed to fetch gridnode://r/debian/pool/x.deb  the connection was cut at byte 4004 of "
                 "8080",
                        APT_FAILURE_WAY},
        };

        for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
                struct apt_complaints c = COMPLAINTS(cases[i].line);

                if (c.failure != cases[i].failure)
                        fail_msg("%s: %s", cases[i].line, apt_failure_to_string(c.failure));
                assert_false(apt_failure_is_permanent(c.failure));
        }
}

/* As apt says it: that nothing came is only what follows from it, and is not waited for. */
static void test_without_its_method(void **state)
{
        (void)state;
        struct apt_complaints c = COMPLAINTS(
                "E: The method driver /usr/lib/apt/methods/gridnode could not be found.",
                "E: Failed to fetch gridnode://repo.grid.example/debian/dists/stable/InRelease  ",
                "E: Some index files failed to download. They have been ignored, or old ones used instead.");

        assert_int_equal(c.failure, APT_FAILURE_METHOD);
        assert_true(apt_failure_is_permanent(c.failure));
        assert_non_null(strstr(c.text, "could not be found"));
}

static void test_the_worst_decides(void **state)
{
        (void)state;
        struct apt_complaints c = COMPLAINTS("Err:1 gridnode://r/debian stable/main amd64 x amd64 1",
                "  Hash Sum mismatch", "E: Failed to fetch gridnode://r/y  the connection was cut",
                "E: Unable to fetch some archives");

        assert_int_equal(c.failure, APT_FAILURE_HASH);
        c = COMPLAINTS("Get:1 gridnode://r/debian stable InRelease [3,120 B]",
                "W: Some warning about nothing", "Setting up gridnode (0.2.0) ...", "  indented",
                "dpkg: warning: downgrading gridnode");
        assert_int_equal(c.failure, APT_FAILURE_NONE);
        assert_string_equal(c.text, "");
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_changes),
                cmocka_unit_test(test_what_is_no_change),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_space),
                cmocka_unit_test(test_status),
                cmocka_unit_test(test_a_way_that_is_blocked),
                cmocka_unit_test(test_permanent_ones),
                cmocka_unit_test(test_transient_ones),
                cmocka_unit_test(test_without_its_method),
                cmocka_unit_test(test_the_worst_decides),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
