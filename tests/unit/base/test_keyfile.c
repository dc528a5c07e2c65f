#include "base/keyfile.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static struct keyfile *parse(const char *text)
{
        struct keyfile *k = NULL;
        struct error e;

        if (keyfile_parse("t.conf", text, strlen(text), &k, &e) < 0)
                fail_msg("%s", e.text);
        return k;
}

static void assert_bytes_error(const char *bytes, size_t length, const char *code, const char *text)
{
        struct keyfile *k = NULL;
        struct error e;

        assert_int_equal(keyfile_parse("t.conf", bytes, length, &k, &e), -EBADMSG);
        assert_null(k);
        assert_int_equal(e.number, EBADMSG);
        assert_string_equal(e.text, text);
        assert_string_equal(e.code, code);
}

#define ASSERT_SYNTAX(literal, text) assert_bytes_error(literal, sizeof(literal) - 1, "config.syntax", text)
#define ASSERT_DUPLICATE(literal, text) \
        assert_bytes_error(literal, sizeof(literal) - 1, "config.duplicate", text)

static void assert_value(struct keyfile *k, const char *section, const char *key, const char *value, int line)
{
        const struct keyfile_entry *e = keyfile_take(k, section, key);

        assert_non_null(e);
        assert_string_equal(e->section, section);
        assert_string_equal(e->key, key);
        assert_string_equal(e->value, value);
        assert_int_equal(e->line, line);
}

static void test_plain(void **state)
{
        (void)state;
        struct keyfile *k =
                parse("# a comment\n\n[node]\nname = branch-12\n  ; another\n\t key=value = with = signs\n"
                      "[lan eth1]\naddress = 10.20.0.2/24\nempty =\n");

        assert_string_equal(keyfile_path(k), "t.conf");
        assert_value(k, "node", "name", "branch-12", 4);
        assert_value(k, "node", "key", "value = with = signs", 6);
        assert_value(k, "lan eth1", "address", "10.20.0.2/24", 8);
        assert_value(k, "lan eth1", "empty", "", 9);
        assert_null(keyfile_take(k, "node", "address"));
        assert_null(keyfile_take(k, "lan", "address"));
        assert_int_equal(keyfile_check_leftovers(k, NULL), 0);
        keyfile_free(k);
        assert_null(keyfile_free(NULL));
}

/* A # or ; inside a value belongs to it. */
static void test_no_comments_beside_values(void **state)
{
        (void)state;
        struct keyfile *k = parse("[a]\nlist = x ; y # z\nhash=#1\n");

        assert_value(k, "a", "list", "x ; y # z", 2);
        assert_value(k, "a", "hash", "#1", 3);
        keyfile_free(k);
}

static void test_line_ends(void **state)
{
        (void)state;
        struct keyfile *k = parse("\xef\xbb\xbf[a]\r\nx = 1\r\n\r\n[b] \r\ny\t=\t2");

        assert_value(k, "a", "x", "1", 2);
        assert_value(k, "b", "y", "2", 5);
        keyfile_free(k);
        keyfile_free(parse(""));
        keyfile_free(parse("\n\n"));
        keyfile_free(parse("\xef\xbb\xbf"));
        keyfile_free(parse("# only a comment"));
}

static void test_sections(void **state)
{
        (void)state;
        struct keyfile *k = parse("[a]\n\n[ b c ]\nx = 1\n[d]");
        int line = 0;

        assert_string_equal(keyfile_section(k, 0, &line), "a");
        assert_int_equal(line, 1);
        assert_string_equal(keyfile_section(k, 1, &line), "b c");
        assert_int_equal(line, 3);
        assert_string_equal(keyfile_section(k, 2, NULL), "d");
        assert_null(keyfile_section(k, 3, &line));
        assert_int_equal(line, 3);
        keyfile_free(k);
}

static void test_syntax_errors(void **state)
{
        (void)state;
        ASSERT_SYNTAX("[a]\nnonsense\n", "t.conf:2: neither [section], key = value nor a comment: nonsense");
        ASSERT_SYNTAX("[a\nx=1\n", "t.conf:1: a section name without its ]");
        ASSERT_SYNTAX(
                "[a] # no\n", "t.conf:1: text after ]; a comment needs a line of its own that begins with #");
        ASSERT_SYNTAX("[]\n", "t.conf:1: a section without a usable name");
        ASSERT_SYNTAX("[ \t]\n", "t.conf:1: a section without a usable name");
        ASSERT_SYNTAX("[[a]\n", "t.conf:1: a section without a usable name");
        ASSERT_SYNTAX("[a]\n= 1\n", "t.conf:2: a value without a key before its =");
        ASSERT_SYNTAX("\nx = 1\n[a]\n", "t.conf:2: x stands before the first [section]");
}

static void test_bad_bytes(void **state)
{
        (void)state;
        ASSERT_SYNTAX("[a]\nx\0y = 1\n", "t.conf:2: a NUL byte; the file must be plain UTF-8 text");
        ASSERT_SYNTAX("[a]\n# in a comment \0\n", "t.conf:2: a NUL byte; the file must be plain UTF-8 text");
        ASSERT_SYNTAX("[\0a\0]\0\n\0", "t.conf:1: a NUL byte; the file must be plain UTF-8 text");
        ASSERT_SYNTAX("[a]\nx = \x1b[31m\n", "t.conf:2: a control byte, 0x1b");
        ASSERT_SYNTAX("[a]\rx = 1\r", "t.conf:1: a control byte, 0x0d");
        ASSERT_SYNTAX(
                "[a]\n\xff\xfe\n", "t.conf:2: neither [section], key = value nor a comment: \\xff\\xfe");
}

static void test_duplicates(void **state)
{
        (void)state;
        ASSERT_DUPLICATE(
                "[a]\nx = 1\ny = 1\nx = 2\ny = 2\n", "t.conf:4: [a] x is given twice, first at line 2");
        ASSERT_DUPLICATE("[a]\nx = 1\nx = 2\nx = 3\n", "t.conf:3: [a] x is given twice, first at line 2");
        ASSERT_DUPLICATE(
                "[a]\n[b]\n[a]\n", "t.conf:3: [a] is given twice, first at line 1; put its keys together");
        /* The same key in two sections is none. */
        keyfile_free(parse("[a]\nx = 1\n[b]\nx = 1\n"));
        keyfile_free(parse("[a]\nx = 1\nX = 1\n"));
}

static void test_take_next(void **state)
{
        (void)state;
        struct keyfile *k = parse("[addresses]\nrepo = 1\nzuul = 2\nauth = 3\n[other]\nx = 1\n");
        const struct keyfile_entry *e;

        assert_non_null(keyfile_take(k, "addresses", "zuul"));
        e = keyfile_take_next(k, "addresses");
        assert_string_equal(e->key, "repo");
        e = keyfile_take_next(k, "addresses");
        assert_string_equal(e->key, "auth");
        assert_null(keyfile_take_next(k, "addresses"));
        assert_null(keyfile_take_next(k, "nowhere"));
        /* A key that was taken can be had again. */
        assert_non_null(keyfile_take(k, "addresses", "repo"));
        keyfile_free(k);
}

static void assert_leftovers(struct keyfile *k, const char *code, const char *text)
{
        struct error e = {0};

        assert_int_equal(keyfile_check_leftovers(k, &e), -EINVAL);
        assert_string_equal(e.text, text);
        assert_string_equal(e.code, code);
        assert_int_equal(e.number, EINVAL);
}

static void test_leftovers(void **state)
{
        (void)state;
        struct keyfile *k = parse("[wan]\ninterface = eth0\ndsn = 1\n[empty]\n");

        assert_leftovers(k, "config.unknown-section", "t.conf:1: [wan]: unknown section");
        keyfile_take(k, "wan", "interface");
        keyfile_take(k, "wan", "dns");
        assert_leftovers(
                k, "config.unknown-key", "t.conf:3: [wan] dsn = 1: unknown key; known here: interface, dns");
        keyfile_take(k, "wan", "dsn");
        assert_leftovers(k, "config.unknown-section", "t.conf:4: [empty]: unknown section");
        keyfile_take(k, "empty", "x");
        assert_int_equal(keyfile_check_leftovers(k, NULL), 0);
        keyfile_free(k);
}

static void test_value_error(void **state)
{
        (void)state;
        struct keyfile *k = parse("[wan]\naddress = 1.2.3\nevil = \xc2\x9b"
                                  "31m\n");
        struct error e;

        assert_int_equal(
                keyfile_value_error(k, keyfile_take(k, "wan", "address"), &e, "not one; write %s", "x"),
                -EINVAL);
        assert_string_equal(e.text, "t.conf:2: [wan] address = 1.2.3: not one; write x");
        assert_string_equal(e.code, "config.value");
        keyfile_value_error(k, keyfile_take(k, "wan", "evil"), &e, "no");
        assert_string_equal(e.text, "t.conf:3: [wan] evil = \\xc2\\x9b31m: no");
        assert_int_equal(keyfile_section_error(k, 0, "config.value", &e, "%s", "wrong"), -EINVAL);
        assert_string_equal(e.text, "t.conf:1: [wan]: wrong");
        assert_int_equal(keyfile_value_error(k, keyfile_take(k, "wan", "evil"), NULL, "no"), -EINVAL);
        keyfile_free(k);
}

/* However long the value, the reason is still in the message. */
static void test_long_line(void **state)
{
        (void)state;
        const size_t size = 1 << 20;
        _cleanup_free_ char *text = malloc(size + 8);
        const struct keyfile_entry *entry;
        struct keyfile *k;
        struct error e;

        assert_non_null(text);
        strcpy(text, "[a]\nx=");
        memset(text + 6, 'v', size);
        text[size + 6] = '\0';
        k = parse(text);
        entry = keyfile_take(k, "a", "x");
        assert_int_equal(strlen(entry->value), size);
        keyfile_value_error(k, entry, &e, "too long; make it short");
        assert_true(str_ends_with(e.text, "vvv...: too long; make it short"));
        keyfile_free(k);
        /* Nor does a long line without a sign, or one that is a section, fill the message. */
        text[5] = 'x';
        assert_int_equal(keyfile_parse("t.conf", text, size + 6, &k, &e), -EBADMSG);
        assert_true(strlen(e.text) < 200);
        text[4] = '[';
        assert_int_equal(keyfile_parse("t.conf", text, size + 6, &k, &e), -EBADMSG);
}

static void test_sizes(void **state)
{
        (void)state;
        const size_t limit = 4 << 20;
        _cleanup_free_ char *text = malloc(limit + 1);
        struct keyfile *k = NULL;
        struct error e;

        assert_non_null(text);
        memset(text, '\n', limit + 1);
        assert_int_equal(keyfile_parse("t.conf", text, limit + 1, &k, &e), -EFBIG);
        assert_null(k);
        assert_int_equal(keyfile_parse("t.conf", text, limit, &k, &e), 0);
        keyfile_free(k);
}

static void fill(struct text *t, const char *format, int count)
{
        for (int i = 0; i < count; i++) {
                /* Backwards, so that the order of the file is not that of the index. */
                if (format[0] == '[')
                        text_addf(t, "[s%06d]\n", count - i);
                else
                        text_addf(t, "k%06d = %d\n", count - i, i);
        }
}

static double seconds(void)
{
        struct timespec now;

        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
        return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* What is read takes time in proportion, not the square of it. */
static void test_many(void **state)
{
        (void)state;
        struct text t = {0};
        struct keyfile *k = NULL;
        double start = seconds();
        struct error e;

        text_add(&t, "[a]\n");
        fill(&t, "k", 65536);
        k = parse(text_string(&t));
        assert_value(k, "a", "k000001", "65535", 65537);
        assert_value(k, "a", "k065536", "0", 2);
        for (int i = 0; i < 65534; i++)
                assert_non_null(keyfile_take_next(k, "a"));
        assert_null(keyfile_take_next(k, "a"));
        assert_int_equal(keyfile_check_leftovers(k, NULL), 0);
        keyfile_free(k);
        text_add(&t, "one = more\n");
        assert_int_equal(keyfile_parse("t.conf", text_string(&t), t.length, &k, &e), -EBADMSG);
        assert_string_equal(e.text, "t.conf:65538: more than 65536 keys");
        text_done(&t);
        fill(&t, "[", 1025);
        assert_int_equal(keyfile_parse("t.conf", text_string(&t), t.length, &k, &e), -EBADMSG);
        assert_string_equal(e.text, "t.conf:1025: more than 1024 sections");
        text_done(&t);
        assert_true(seconds() - start < 5);
}

static void test_load(void **state)
{
        (void)state;
        char path[] = "/tmp/gridnode-test-keyfile-XXXXXX";
        struct keyfile *k = NULL;
        FILE *f = fdopen(mkstemp(path), "w");
        struct error e;

        assert_non_null(f);
        fputs("[a]\nx = 1\n", f);
        fclose(f);
        assert_int_equal(keyfile_load(path, &k, &e), 0);
        assert_string_equal(keyfile_path(k), path);
        assert_value(k, "a", "x", "1", 2);
        keyfile_free(k);
        remove(path);
        k = NULL;
        assert_int_equal(keyfile_load(path, &k, &e), -ENOENT);
        assert_non_null(strstr(e.text, path));
        assert_null(k);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_plain),
                cmocka_unit_test(test_no_comments_beside_values),
                cmocka_unit_test(test_line_ends),
                cmocka_unit_test(test_sections),
                cmocka_unit_test(test_syntax_errors),
                cmocka_unit_test(test_bad_bytes),
                cmocka_unit_test(test_duplicates),
                cmocka_unit_test(test_take_next),
                cmocka_unit_test(test_leftovers),
                cmocka_unit_test(test_value_error),
                cmocka_unit_test(test_long_line),
                cmocka_unit_test(test_sizes),
                cmocka_unit_test(test_many),
                cmocka_unit_test(test_load),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
