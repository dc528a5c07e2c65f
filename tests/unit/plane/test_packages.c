/* The repository's pure parts, and its generations in a folder of their own; the whole with its real programs
 * is tests/lab/test_repository.py. */
#include "plane/packages_internal.h"

#include "base/alloc.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define ZERO "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
#define ONE  "59869db34853933b239f1e2219cf7d431da006aa919635478511fabbfc8849d2"
#define DAY  INT64_C(86400000)
#define NOW  INT64_C(1795287600000)

/* ---- what the programs say ---- */

static void test_control(void **state)
{
        static const struct {
                const char *text, *said;
        } wrong[] = {
                {"", "cannot be read"},
                {"a\tb\n", "cannot be read"},
                {"Hello\t1\tall\tx\ty\n", "no Package"},
                {"h\t1\tall\tx\ty\n", "no Package"},
                {"../x\t1\tall\tx\ty\n", "no Package"},
                {"hello\t\tall\tx\ty\n", "no Version"},
                {"hello\tv1\tall\tx\ty\n", "no Version"},
                {"hello\t1/2\tall\tx\ty\n", "no Version"},
                {"hello\t1\ts390x\tx\ty\n", "architecture 's390x'"},
                {"hello\t1\t\tx\ty\n", "architecture ''"},
        };
        struct package_control c;
        struct error e;

        (void)state;
        assert_int_equal(package_control_parse("g++\t1:2.0~rc1-3+b1\tamd64\t\toptional\n", &c, &e), 0);
        assert_string_equal(c.name, "g++");
        assert_string_equal(c.version, "1:2.0~rc1-3+b1");
        assert_string_equal(c.architecture, "amd64");
        assert_false(c.has_section);
        assert_true(c.has_priority);
        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                assert_int_equal(package_control_parse(wrong[i].text, &c, &e), -EBADMSG);
                assert_non_null(strstr(e.text, wrong[i].said));
        }
}

static void test_list(void **state)
{
        static const char *const wrong[] = {
                "hello\t1\tall\t7\t" ZERO "\t/etc/passwd\n",
                "hello\t1\tall\t7\t" ZERO "\tpool/../../x\n",
                "hello\t1\tall\t-7\t" ZERO "\tpool/x\n",
                "hello\t1\tall\t7\tabc\tpool/x\n",
                "hello\t1\tall\t7\t" ZERO "\n",
                "No such thing\n",
        };
        const char *at = "hello\t1.0\tall\t704\t" ZERO "\tpool/main/h/hello_1.0_all.deb\n"
                         "plain\t2\tamd64\t0\t" ONE "\tpool/main/p/plain_1%3a2_amd64.deb\n";
        struct package_row row;
        struct error e;

        (void)state;
        assert_int_equal(package_row_next(&at, &row, &e), 1);
        assert_string_equal(row.name, "hello");
        assert_int_equal(row.size_bytes, 704);
        assert_string_equal(row.sha256, ZERO);
        assert_int_equal(package_row_next(&at, &row, &e), 1);
        assert_string_equal(row.file, "pool/main/p/plain_1%3a2_amd64.deb");
        assert_int_equal(package_row_next(&at, &row, &e), 0);
        for (size_t i = 0; i < ELEMENTS(wrong); i++) {
                at = wrong[i];
                assert_int_equal(package_row_next(&at, &row, &e), -EBADMSG);
        }
}

static const char release[] = "Origin: gridplane\nLabel: gridplane\nSuite: stable\nCodename: stable\n"
                              "Date: Sat, 21 Nov 2026 18:30:29 UTC\nArchitectures: amd64 arm64\n"
                              "Components: main\nMD5Sum:\n d41d8cd98f00b204e9800998ecf8427e 0 "
                              "main/binary-amd64/Packages\nSHA256:\n " ZERO
                              " 0 main/binary-amd64/Packages\n " ONE " 20 main/binary-amd64/Packages.gz\n";

static void test_release(void **state)
{
        static const char *const wrong[] = {"SHA256:\n " ZERO " 0 /etc/passwd\n",
                "SHA256:\n " ZERO " 0 main/../../x\n", "SHA256:\n abc 0 main/x\n", "SHA256:\n " ZERO " 0\n",
                "SHA256:\n " ZERO " 0 main/x y\n", "SHA256:\n " ZERO " 0 main/.x\n"};
        _cleanup_free_ char *text = package_release_text(release, 1795287600, 1795892400);
        struct package_index i;
        const char *at = text;
        struct error e;

        (void)state;
        assert_string_equal(text,
                "Origin: gridplane\nLabel: gridplane\nSuite: stable\nCodename: stable\n"
                "Architectures: amd64 arm64\nComponents: main\n"
                "Date: Sat, 21 Nov 2026 19:00:00 UTC\nValid-Until: Sat, 28 Nov 2026 19:00:00 UTC\n"
                "Acquire-By-Hash: yes\nSHA256:\n " ZERO " 0 main/binary-amd64/Packages\n " ONE
                " 20 main/binary-amd64/Packages.gz\n");
        assert_int_equal(package_index_next(&at, &i, &e), 1);
        assert_string_equal(i.path, "main/binary-amd64/Packages");
        assert_int_equal(package_index_next(&at, &i, &e), 1);
        assert_string_equal(i.sha256, ONE);
        assert_int_equal(package_index_next(&at, &i, &e), 0);
        for (size_t n = 0; n < ELEMENTS(wrong); n++) {
                at = wrong[n];
                assert_int_equal(package_index_next(&at, &i, &e), -EBADMSG);
        }
}

static void test_reasons(void **state)
{
        static const struct {
                const char *said, *reason;
        } cases[] = {
                {"", "it said nothing"},
                {"gpg: WARNING: unsafe permissions\ngpg: signing failed: No secret key\n",
                        "signing failed: No secret key"},
                {"dpkg-deb: error: '/in/u.deb' is not a Debian format archive\n",
                        "the file is not a Debian format archive"},
                {"ERROR: 'x' cannot be included as 'y'.\nAlready existing files can\nThere have been "
                 "errors!\n",
                        "'x' cannot be included as 'y'."},
                {"one\ntwo\x1b[31m\nThere have been errors!\n", "two\\x1b[31m"},
        };
        char fingerprint[65];

        (void)state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                _cleanup_free_ char *reason = package_reason(cases[i].said, "/in/u.deb");

                assert_string_equal(reason, cases[i].reason);
        }
        assert_true(package_key_created("[GNUPG:] X\n[GNUPG:] KEY_CREATED P "
                                        "1F59FA377153586BE2E25CB7DE89199771A7253E\n",
                fingerprint));
        assert_string_equal(fingerprint, "1F59FA377153586BE2E25CB7DE89199771A7253E");
        assert_false(package_key_created("[GNUPG:] KEY_CREATED P 1F59\n", fingerprint));
        assert_false(package_key_created("", fingerprint));
}

/* ---- keys ---- */

static void test_keys(void **state)
{
        struct package_keys k = {0}, again;
        struct error e;

        assert_int_equal(package_keys_load(*state, &again, &e), 0);
        assert_int_equal(again.count, 0);
        assert_int_equal(package_keys_add(&k, "AA", 30 * DAY, NOW, &e), 0);
        assert_null(package_keys_over(&k, NOW + 9999 * DAY)); /* the newest never is */
        assert_int_equal(package_keys_add(&k, "BB", 30 * DAY, NOW, &e), 0);
        assert_int_equal(package_keys_add(&k, "CC", 40 * DAY, NOW, &e), 0);
        assert_int_equal(k.items[0].retires_unix_ms, NOW + 30 * DAY); /* not put off by the next rotation */
        assert_int_equal(k.items[1].retires_unix_ms, NOW + 40 * DAY);
        assert_int_equal(k.items[2].retires_unix_ms, 0);
        assert_int_equal(package_keys_save(*state, &k, &e), 0);
        assert_int_equal(package_keys_load(*state, &again, &e), 0);
        assert_memory_equal(&k, &again, sizeof(k));
        assert_null(package_keys_over(&k, NOW + 30 * DAY - 1));
        assert_string_equal(package_keys_over(&k, NOW + 30 * DAY)->fingerprint, "AA");
        package_keys_drop(&k, "AA");
        assert_string_equal(package_keys_over(&k, NOW + 40 * DAY)->fingerprint, "BB");
        package_keys_drop(&k, "BB");
        assert_int_equal(k.count, 1);
        assert_null(package_keys_over(&k, NOW + 40 * DAY));
        while (k.count < PACKAGE_KEYS_MAXIMUM)
                assert_int_equal(package_keys_add(&k, "DD", DAY, NOW, &e), 0);
        assert_int_equal(package_keys_add(&k, "EE", DAY, NOW, &e), -EEXIST);
}

/* ---- generations ---- */

static void put(const char *folder, const char *name, const char *text)
{
        _cleanup_free_ char *path = path_join(folder, name);
        struct error e;

        if (file_save(path, text, strlen(text), 0600, &e) < 0)
                fail_msg("%s", e.text);
}

/* As reprepro exports it: one index. */
static void export(const char *folder, const char *hash, const char *content)
{
        static const char *const codenames[] = {"stable", "testing", "bookworm-security"};

        for (size_t i = 0; i < ELEMENTS(codenames); i++) {
                _cleanup_free_ char *base = xasprintf("%s/dists/%s", folder, codenames[i]),
                                    *main = path_join(base, "main"),
                                    *text = xasprintf("Suite: x\nSHA256:\n %s 1 main/Packages\n", hash);

                mkdir(base, 0700);
                mkdir(main, 0700);
                put(main, "Packages", content);
                put(base, "Release", text);
        }
}

static bool is_there(const char *folder, const char *name)
{
        _cleanup_free_ char *path = path_join(folder, name);

        return access(path, F_OK) == 0;
}

static void next_generation(const char *folder, const bool changed[CHANNEL_COUNT], int64_t now)
{
        _cleanup_free_ char *path = NULL;
        struct error e;

        if (package_generation_begin(folder, changed, now, &path, &e) < 0 ||
                package_generation_switch(folder, path, &e) < 0)
                fail_msg("%s", e.text);
}

static void test_generations(void **state)
{
        static const bool all[CHANNEL_COUNT] = {true, true, true}, one[CHANNEL_COUNT] = {true};
        const char *folder = *state;
        struct error e;

        assert_int_equal(package_folder_prepare(folder, &e), 0);
        export(folder, ZERO, "a");
        next_generation(folder, all, NOW);
        assert_true(is_there(folder, "public/dists/stable/main/by-hash/SHA256/" ZERO));
        assert_true(is_there(folder, "public/dists/bookworm-security/main/Packages"));
        export(folder, ONE, "b");
        next_generation(folder, one, NOW + DAY / 2);
        assert_true(is_there(folder, "current/dists/stable/main/by-hash/SHA256/" ONE));
        /* Who has the former InRelease still gets what it names; the other channels stay as they are. */
        assert_true(is_there(folder, "current/dists/stable/main/by-hash/SHA256/" ZERO));
        assert_true(is_there(folder, "current/dists/testing/main/by-hash/SHA256/" ZERO));
        assert_false(is_there(folder, "current/dists/testing/main/by-hash/SHA256/" ONE));
        next_generation(folder, one, NOW + DAY);
        assert_true(is_there(folder, "current/dists/stable/main/by-hash/SHA256/" ZERO));
        next_generation(folder, one, NOW + DAY * 3 / 2);
        assert_false(is_there(folder, "current/dists/stable/main/by-hash/SHA256/" ZERO));
        assert_true(is_there(folder, "current/dists/stable/main/by-hash/SHA256/" ONE));
        assert_false(is_there(folder, "published/3")); /* nothing of the former ones is left */
        assert_true(is_there(folder, "published/4"));
        assert_true(is_there(folder, "current/dists/testing/main/by-hash/SHA256/" ZERO));
}

static void test_interrupted(void **state)
{
        static const bool all[CHANNEL_COUNT] = {true, true, true};
        _cleanup_free_ char *path = NULL;
        const char *folder = *state;
        struct error e;

        assert_int_equal(package_folder_prepare(folder, &e), 0);
        assert_int_equal(package_generation_begin(folder, all, NOW, &path, &e), -ENOENT); /* no export */
        assert_false(is_there(folder, "published/1"));
        export(folder, ZERO, "a");
        next_generation(folder, all, NOW);
        assert_int_equal(package_generation_begin(folder, all, NOW, &path, &e), 0);
        assert_true(is_there(folder, "published/2")); /* and then it is killed */
        next_generation(folder, all, NOW);
        assert_true(is_there(folder, "current/dists/stable/Release"));
        assert_false(is_there(folder, "published/1"));
}

static void test_times(void **state)
{
        const char *folder = *state;
        _cleanup_free_ char *former = path_join(folder, "a"), *path = path_join(folder, "b");
        struct stat a, b;
        struct error e;

        put(folder, "a", "");
        put(folder, "b", "");
        assert_int_equal(stat(former, &a), 0);
        assert_int_equal(package_make_later(path, former, &e), 0);
        assert_int_equal(stat(path, &b), 0);
        assert_true(b.st_mtim.tv_sec > a.st_mtim.tv_sec);
        assert_int_equal(package_make_later(path, "/nonexistent", &e), 0);
        assert_int_equal(package_make_later("/nonexistent", former, &e), -ENOENT);
}

static int setup(void **state)
{
        char folder[] = "/tmp/gridplane-packages-XXXXXX";

        *state = xstrdup(mkdtemp(folder));
        return 0;
}

static int teardown(void **state)
{
        int r = package_remove_folder(*state);

        free(*state);
        return r;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_control),
                cmocka_unit_test(test_list),
                cmocka_unit_test(test_release),
                cmocka_unit_test(test_reasons),
                cmocka_unit_test_setup_teardown(test_keys, setup, teardown),
                cmocka_unit_test_setup_teardown(test_generations, setup, teardown),
                cmocka_unit_test_setup_teardown(test_interrupted, setup, teardown),
                cmocka_unit_test_setup_teardown(test_times, setup, teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
