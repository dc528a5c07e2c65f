/* What the control plane may run here, and what not; a script stands in for gridnode. */
#include "node/tools.h"

#include "../scaffold.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- the arguments: pure ---- */

static const struct tools_place place = {"/usr/bin/gridnode", "/c", NULL};

/* Words of a request, separated by "|"; an empty one is written as "''". */
static struct wire_request request_of(const char *tool, const char *words)
{
        struct wire_request r = {.tool = strdup(tool), .timeout_s = 10};
        struct strv list = {0};

        str_copy(r.id, sizeof r.id, "r-1");
        strv_split(&list, words, '|');
        for (size_t i = 0; i < list.count; i++)
                strv_add(&r.arguments, str_equal(list.items[i], "''") ? "" : list.items[i]);
        strv_done(&list);
        return r;
}

static void assert_arguments(const char *tool, const char *words, const char *wanted)
{
        struct wire_request r = request_of(tool, words);
        struct strv arguments = {0};
        struct error e = {0};
        _cleanup_free_ char *joined = NULL, *whole = NULL;

        if (tools_arguments(&place, &r, &arguments, &e) < 0)
                fail_msg("%s %s: %s", tool, words, e.text);
        joined = strv_join(&arguments, "|");
        if (asprintf(&whole, "/usr/bin/gridnode|%s|--config|/c%s%s", tool, wanted[0] ? "|" : "", wanted) < 0)
                fail();
        assert_string_equal(joined, whole);
        strv_done(&arguments);
        wire_request_done(&r);
}

static void assert_refused(const char *tool, const char *words, int number, const char *said)
{
        struct wire_request r = request_of(tool, words);
        struct strv arguments = {0};
        struct error e = {0};
        int result = tools_arguments(&place, &r, &arguments, &e);

        if (result != -number)
                fail_msg("%s %s: %d %s", tool, words, result, e.text);
        assert_int_equal(arguments.count, 0);
        if (!strstr(e.text, said))
                fail_msg("%s %s: '%s' has no '%s'", tool, words, e.text, said);
        wire_request_done(&r);
}

static void test_allowed(void **state)
{
        (void)state;
        assert_arguments("diag", "", "");
        assert_arguments("diag", "--budget=3|--verbose|--json|--no-capture",
                "--budget=3|--verbose|--json|--no-capture");
        assert_arguments("diag", "-b|3|-vj", "--budget=3|--verbose|--json");
        assert_arguments("diag", "-jvb3", "--json|--verbose|--budget=3");
        assert_arguments("diag", "-i|eth0|--source|192.0.2.10", "--interface=eth0|--source=192.0.2.10");
        assert_arguments("diag", "--profile|grid-2.test", "--profile=grid-2.test");
        assert_arguments("diag", "--help", "--help");
        assert_arguments("tcp", "repo.grid.example|443", "--|repo.grid.example|443");
        assert_arguments(
                "tcp", "repo.grid.example|-j|443|--timeout|5", "--json|--timeout=5|--|repo.grid.example|443");
        assert_arguments("dns", "repo.grid.example|@198.51.100.53|-T|-yNS",
                "--tcp|--type=NS|--|repo.grid.example|@198.51.100.53");
        assert_arguments("tls", "--sni=''|a:443|-m|--pem", "--sni=''|--mutual|--pem|--|a:443");
        assert_arguments("route", "198.51.100.16:443|-j", "--json|--|198.51.100.16:443");
        assert_arguments("trace", "a|443", "--|a|443");
}

/* It asks the daemon, in the name of who asked the control plane. */
static void test_updates(void **state)
{
        struct wire_request r = request_of("update", "--now|--no-reboot|--channel|testing");
        const struct tools_place elsewhere = {"/usr/bin/gridnode", "/c", "/srv/node"};
        struct strv arguments = {0};
        _cleanup_free_ char *joined = NULL, *anonymous = NULL;

        (void)state;
        r.by = strdup("upgrade:g-1 --cancel");
        assert_int_equal(tools_arguments(&elsewhere, &r, &arguments, NULL), 0);
        joined = strv_join(&arguments, "|");
        assert_string_equal(joined, "/usr/bin/gridnode|update|--root=/srv/node|--by=upgrade:g-1 "
                                    "--cancel|--now|--no-reboot|--channel=testing");
        strv_done(&arguments);
        free(r.by);
        r.by = NULL;
        assert_int_equal(tools_arguments(&place, &r, &arguments, NULL), 0);
        anonymous = strv_join(&arguments, "|");
        assert_string_equal(anonymous, "/usr/bin/gridnode|update|--by=control "
                                       "plane|--now|--no-reboot|--channel=testing");
        strv_done(&arguments);
        wire_request_done(&r);
        assert_refused("update", "--by=root|--now", EINVAL, "update has no option --by=root");
        assert_refused("update", "--root=/tmp", EPERM, "--root names a file");
        assert_refused("update", "--config=/x", EINVAL, "update has no option --config=/x");
}

/* As by hand: "--" ends the options, "-" alone is none, a value may look like an option. */
static void test_hyphens(void **state)
{
        (void)state;
        assert_arguments("tcp", "--|--config=/x|443", "--|--config=/x|443");
        assert_arguments("tcp", "a|--|-c", "--|a|-c");
        assert_arguments("tcp", "-|443", "--|-|443");
        assert_arguments("tcp", "--|--|443", "--|--|443");
        assert_arguments("tcp", "--source|--config=/x|a|443", "--source=--config=/x|--|a|443");
        assert_arguments("tcp", "''|443", "--||443");
        assert_arguments("dns", "-y|-c|a", "--type=-c|--|a");
        assert_arguments("diag", "--budget=", "--budget=");
}

static void test_files(void **state)
{
        static const char *const everywhere[] = {"diag", "tcp", "dns", "tls", "route", "trace"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(everywhere); i++) {
                assert_refused(everywhere[i], "--config=/etc/shadow", EPERM, "--config names a file");
                assert_refused(everywhere[i], "--config|/etc/shadow", EPERM, "--config names a file");
                assert_refused(everywhere[i], "-c/etc/shadow", EPERM, "--config names a file");
                assert_refused(everywhere[i], "-jc/etc/shadow", EPERM, "--config names a file");
                assert_refused(everywhere[i], "-c", EPERM, "--config names a file");
                assert_refused(everywhere[i], "--conf=/etc/shadow", EINVAL, "no option --conf=/etc/shadow");
                assert_refused(everywhere[i], "--c=/etc/shadow", EINVAL, "no option");
                assert_refused(everywhere[i], "--root=/tmp", EINVAL, "no option");
        }
        assert_refused("diag", "--capture=/etc/cron.d/x", EPERM, "--capture names a file");
        assert_refused("diag", "-w|/x", EPERM, "--capture names a file");
        assert_refused("diag", "-vjw/x", EPERM, "--capture names a file");
        assert_refused("diag", "--replay|-", EPERM, "--replay names a file");
        assert_refused("diag", "-r/x", EPERM, "--replay names a file");
        assert_refused("diag", "--firewall-page=x.md", EPERM, "--firewall-page names a file");
        assert_refused("diag", "-f|x.md", EPERM, "--firewall-page names a file");
        assert_refused("tls", "--root-ca=/x|a:443", EPERM, "--root-ca names a file");
        assert_refused("tls", "-r|/x|a:443", EPERM, "--root-ca names a file");
        assert_refused("tls", "a:443|-mr/x", EPERM, "--root-ca names a file");
}

static void test_profiles(void **state)
{
        static const char *const bad[] = {
                "/etc/passwd", "../x", "a/b", "x.profile", ".hidden", "..", "''", "-c", "a b", "caf\xc3\xa9"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(bad); i++) {
                char words[64];

                snprintf(words, sizeof words, "--profile|%s", bad[i]);
                assert_refused("diag", words, EPERM, "--profile takes a profile's name");
                snprintf(words, sizeof words, "-p|%s|a:443", bad[i]);
                assert_refused("tls", words, EPERM, "--profile takes a profile's name");
        }
        assert_refused("tcp", "--profile=grid", EINVAL, "tcp has no option --profile=grid");
}

static void test_wrong_usage(void **state)
{
        (void)state;
        assert_refused("diag", "--json=yes", EINVAL, "--json takes no argument");
        assert_refused("diag", "--budget", EINVAL, "--budget needs an argument");
        assert_refused("diag", "-vb", EINVAL, "--budget needs an argument");
        assert_refused("diag", "--frobnicate", EINVAL, "diag has no option --frobnicate");
        assert_refused("diag", "-Z", EINVAL, "diag has no option -Z");
        assert_refused("diag", "---", EINVAL, "no option ---");
        assert_refused("diag", "--=x", EINVAL, "no option --=x");
        assert_refused("diag", "--JSON", EINVAL, "no option");
        assert_refused("diag", "-j\x1b[31m", EINVAL, "-j\\x1b[31m");
        assert_refused("route", "-b5|a", EINVAL, "route has no option -b5");
}

static void test_tools_that_are_none(void **state)
{
        static const char *const bad[] = {"", "run", "register", "explain", "probe", "config", "renew",
                "DIAG", "diag ", "../diag", "/bin/sh", "--help", "-c"};

        (void)state;
        for (size_t i = 0; i < ELEMENTS(bad); i++)
                assert_refused(bad[i], "", EPERM, "no tool that the control plane may run");
        assert_int_equal(tools_arguments(&place, &(struct wire_request){0}, &(struct strv){0}, NULL), -EPERM);
}

/* ---- running them ---- */

static sd_event *event;
static struct tools *tools;
static char folder[] = "/tmp/gB-tools-XXXXXX", program[64];

struct heard { /* of one request */
        char id[16];
        struct text lines;
        int64_t next;
        unsigned messages;
        size_t most; /* lines in a message */
        double first_ms, end_ms;
        bool ended;
        enum wire_end end;
        int status;
        char error[256];
};
static struct heard heard[8];

static struct heard *heard_of(const char *id)
{
        for (size_t i = 0; i < ELEMENTS(heard); i++) {
                if (!heard[i].id[0])
                        str_copy(heard[i].id, sizeof heard[i].id, id);
                if (str_equal(heard[i].id, id))
                        return &heard[i];
        }
        fail();
        return NULL;
}

static void on_output(const char *request, const struct wire_output *o, void *userdata)
{
        struct heard *h = heard_of(request);
        json_t *j = wire_output_to_json(o);
        char *text = json_dumps(j, JSON_COMPACT);
        struct wire_output back = {0};
        struct error e = {0};

        assert_ptr_equal(userdata, &tools);
        assert_true(strlen(text) < WIRE_MESSAGE_MAXIMUM);
        if (wire_output_parse(text, strlen(text), &back, &e) < 0) /* the plane takes it */
                fail_msg("%s", e.text);
        wire_output_done(&back);
        free(text);
        json_decref(j);
        assert_false(h->ended);
        assert_int_equal(o->first, h->next);
        h->next += (int64_t)o->line_count;
        h->messages++;
        if (o->line_count > h->most)
                h->most = o->line_count;
        if (h->messages == 1)
                h->first_ms = clock_monotonic_ms();
        for (size_t i = 0; i < o->line_count; i++) {
                if (h->lines.length < 4096)
                        text_addf(&h->lines, "%s%s|", o->lines[i].is_error ? "!" : "", o->lines[i].text);
        }
        if (o->end == END_NONE)
                return;
        h->ended = true;
        h->end_ms = clock_monotonic_ms();
        h->end = o->end;
        h->status = o->status;
        str_copy(h->error, sizeof h->error, o->error ? o->error : "");
}

static struct heard *ask(const char *id, const char *tool, const char *words, double timeout_s)
{
        struct wire_request r = request_of(tool, words);

        scaffold_run_for(event, 1);
        str_copy(r.id, sizeof r.id, id);
        r.timeout_s = timeout_s;
        tools_request(tools, &r);
        wire_request_done(&r);
        return heard_of(id);
}

static void cancel(const char *id)
{
        struct wire_request r = {.cancel = true};

        str_copy(r.id, sizeof r.id, id);
        tools_request(tools, &r);
}

static const char script[] = "#!/bin/sh\n"
                             "tool=$1; shift; shift; shift\n"
                             "case $tool in\n"
                             "tcp) for a in \"$@\"; do echo \"[$a]\"; done; echo note >&2; exit 3;;\n"
                             "dns) i=0; while [ $i -lt 600 ]; do echo $i; i=$((i+1)); done;;\n"
                             "tls) head -c 600000 /dev/zero | tr '\\0' '\"'; echo;;\n"
                             "route) echo first; sleep 0.1; echo second; sleep 1;;\n"
                             "trace) echo begun; exec sleep 100;;\n"
                             /* Few lines and long ones: each is a line more for the sanitizers. */
                             "diag) exec yes \"$(head -c 1000 /dev/zero | tr '\\0' .)\";;\n"
                             "esac\n";

static int set_up(void **state)
{
        struct tools_options o = {.place.config_path = "/c", .on_output = on_output, .userdata = &tools};
        FILE *f;

        (void)state;
        memset(heard, 0, sizeof heard);
        if (!mkdtemp(strcpy(folder, "/tmp/gB-tools-XXXXXX")))
                return -1;
        snprintf(program, sizeof program, "%s/gridnode", folder);
        f = fopen(program, "we");
        if (!f)
                return -1;
        fputs(script, f);
        fclose(f);
        chmod(program, 0755);
        if (sd_event_new(&event) < 0)
                return -1;
        o.event = event;
        o.place.program = program;
        tools = tools_new(&o);
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        tools = tools_free(tools);
        sd_event_unref(event);
        for (size_t i = 0; i < ELEMENTS(heard); i++)
                text_done(&heard[i].lines);
        unlink(program);
        return rmdir(folder);
}

static void test_output(void **state)
{
        struct heard *h = ask("r-1", "tcp", "a; rm -rf /|$(id)|-j|''", 10);

        (void)state;
        assert_int_equal(tools_running(tools), 1);
        assert_int_equal(h->messages, 0);
        assert_true(scaffold_run_until(event, &h->ended, 5000));
        assert_int_equal(h->end, END_EXITED);
        assert_int_equal(h->status, 3);
        assert_int_equal(tools_running(tools), 0);
        assert_non_null(strstr(text_string(&h->lines), "[--json]|[--]|[a; rm -rf /]|[$(id)]|[]|"));
        assert_non_null(strstr(text_string(&h->lines), "!note|"));
}

static void test_gathered(void **state)
{
        struct heard *h = ask("r-1", "dns", "a", 10);

        (void)state;
        assert_true(scaffold_run_until(event, &h->ended, 10000));
        assert_int_equal(h->next, 600);
        assert_true(h->most > 20 && h->most <= OUTPUT_MAX_LINES);
        assert_true(h->messages < 100);
        assert_true(str_starts_with(text_string(&h->lines), "0|1|2|3|"));
}

/* Lines as long as they may be, of characters that JSON escapes: each message is small enough. */
static void test_long_output(void **state)
{
        struct heard *h = ask("r-1", "tls", "a:443", 10);

        (void)state;
        assert_true(scaffold_run_until(event, &h->ended, 10000));
        assert_int_equal(h->end, END_EXITED);
        assert_int_equal(h->next, (600000 + 8191) / 8192);
}

static void test_first_line_at_once(void **state)
{
        struct heard *h = ask("r-1", "route", "a", 10);

        (void)state;
        assert_true(scaffold_run_until(event, &h->ended, 5000));
        assert_int_equal(h->next, 2);
        assert_int_equal(h->messages, 3); /* each line, and the end */
        assert_true(h->end_ms - h->first_ms > 900);
}

static void test_two_at_once(void **state)
{
        struct heard *a = ask("r-1", "trace", "a|1", 10), *b = ask("r-2", "trace", "a|1", 10), *c, *d;

        (void)state;
        c = ask("r-3", "tcp", "a|1", 10);
        assert_true(c->ended);
        assert_int_equal(c->end, END_REFUSED);
        assert_non_null(strstr(c->error, "two tools"));
        assert_int_equal(tools_running(tools), 2);
        cancel("r-1");
        assert_true(scaffold_run_until(event, &a->ended, 3000));
        assert_int_equal(a->end, END_CANCELLED);
        d = ask("r-4", "tcp", "a|1", 10);
        assert_true(scaffold_run_until(event, &d->ended, 5000));
        assert_int_equal(d->end, END_EXITED);
        assert_false(b->ended);
        assert_string_equal(text_string(&b->lines), "begun|");
}

static void test_ids(void **state)
{
        struct heard *h = ask("r-1", "trace", "a|1", 10), *unknown;

        (void)state;
        /* Delivered twice: it runs once. */
        ask("r-1", "trace", "a|1", 10);
        assert_int_equal(tools_running(tools), 1);
        cancel("r-1");
        cancel("r-1");
        assert_true(scaffold_run_until(event, &h->ended, 3000));
        cancel("r-1"); /* too late: the end was told */
        h->ended = false;
        h->next = 0;
        ask("r-1", "tcp", "a|1", 10);
        assert_true(h->ended);
        assert_int_equal(h->end, END_REFUSED);
        assert_non_null(strstr(h->error, "was here before"));
        unknown = heard_of("r-9");
        cancel("r-9");
        assert_true(unknown->ended);
        assert_int_equal(unknown->end, END_LOST);
        assert_int_equal(tools_running(tools), 0);
}

static void test_refusals_are_told(void **state)
{
        struct heard *h = ask("r-1", "tcp", "--config=/x|a|1", 10);

        (void)state;
        assert_true(h->ended);
        assert_int_equal(h->end, END_REFUSED);
        assert_non_null(strstr(h->error, "--config names a file of the node"));
        h = ask("r-2", "sh", "", 10);
        assert_int_equal(h->end, END_REFUSED);
        assert_int_equal(tools_running(tools), 0);
        unlink(program);
        h = ask("r-3", "tcp", "a|1", 10);
        assert_int_equal(h->end, END_LOST);
        assert_non_null(strstr(h->error, "No such file"));
        assert_int_equal(tools_running(tools), 0);
}

static void test_limits(void **state)
{
        struct heard *h = ask("r-1", "trace", "a|1", 1), *much = ask("r-2", "diag", "", 30);

        (void)state;
        assert_true(scaffold_run_until(event, &h->ended, 5000));
        assert_int_equal(h->end, END_TIMEOUT);
        assert_true(scaffold_run_until(event, &much->ended, 20000));
        assert_int_equal(much->end, END_LOST);
        assert_non_null(strstr(much->error, "too much"));
}

/* What runs when the daemon stops is ended, and nobody is told any more. */
static void test_freed_while_running(void **state)
{
        struct heard *h = ask("r-1", "trace", "a|1", 10);

        (void)state;
        tools = tools_free(tools);
        scaffold_run_for(event, 50);
        assert_int_equal(h->messages, 0);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_allowed),
                cmocka_unit_test(test_updates),
                cmocka_unit_test(test_hyphens),
                cmocka_unit_test(test_files),
                cmocka_unit_test(test_profiles),
                cmocka_unit_test(test_wrong_usage),
                cmocka_unit_test(test_tools_that_are_none),
                cmocka_unit_test_setup_teardown(test_output, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_gathered, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_long_output, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_first_line_at_once, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_two_at_once, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_ids, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_refusals_are_told, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_limits, set_up, tear_down),
                cmocka_unit_test_setup_teardown(test_freed_while_running, set_up, tear_down),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
