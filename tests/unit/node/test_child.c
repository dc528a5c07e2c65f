/* Real programs, most of them the shell with something in mind. */
#include "node/child.h"

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
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static sd_event *event;

/* What came of one child. */
struct heard {
        struct child *child;
        struct text out, err; /* lines, each followed by "|" */
        size_t lines, longest, output_length;
        char output[64];
        bool ended;
        unsigned ends;
        enum wire_end end;
        int status;
        bool free_at_line, cancel_at_line;
};

static void on_line(bool is_error, const char *line, void *userdata)
{
        struct heard *h = userdata;
        struct text *t = is_error ? &h->err : &h->out;

        h->lines++;
        if (strlen(line) > h->longest)
                h->longest = strlen(line);
        text_add(t, line);
        text_add(t, "|");
        if (h->free_at_line)
                h->child = child_free(h->child);
        else if (h->cancel_at_line)
                child_cancel(h->child);
}

static void on_end(enum wire_end end, int status, const char *output, size_t length, void *userdata)
{
        struct heard *h = userdata;

        h->ended = true;
        h->ends++;
        h->end = end;
        h->status = status;
        h->output_length = length;
        assert_int_equal(output[length], 0);
        str_copy(h->output, sizeof h->output, output);
        h->child = NULL;
}

static void heard_done(struct heard *h)
{
        text_done(&h->out);
        text_done(&h->err);
        *h = (struct heard){0};
}

static void start(struct heard *h, const struct child_options *o)
{
        struct child_handlers handlers = {on_line, on_end, h};
        struct error e = {0};

        scaffold_run_for(event, 1); /* relative times count from the loop's last turn */
        if (child_start(event, o, &handlers, &h->child, &e) < 0)
                fail_msg("%s", e.text);
        assert_int_equal(h->lines + h->ends, 0); /* nothing from within */
}

static void start_shell(struct heard *h, const char *script, struct child_options o)
{
        const char *arguments[] = {"/bin/sh", "-c", script, NULL};

        o.arguments = arguments;
        if (o.timeout_ms == 0)
                o.timeout_ms = 20000;
        start(h, &o);
}

static void shell(struct heard *h, const char *script, struct child_options o)
{
        start_shell(h, script, o);
        assert_true(scaffold_run_until(event, &h->ended, 25000));
        assert_int_equal(h->ends, 1);
}

static void assert_lines(const char *script, const char *wanted)
{
        struct heard h = {0};

        shell(&h, script, (struct child_options){0});
        assert_string_equal(text_string(&h.out), wanted);
        assert_int_equal(h.end, END_EXITED);
        assert_int_equal(h.status, 0);
        heard_done(&h);
}

/* ---- output ---- */

static void test_lines(void **state)
{
        struct heard h = {0};

        (void)state;
        shell(&h, "echo one; echo two; echo oops >&2; printf three; exit 3", (struct child_options){0});
        assert_string_equal(text_string(&h.out), "one|two|three|");
        assert_string_equal(text_string(&h.err), "oops|");
        assert_int_equal(h.end, END_EXITED);
        assert_int_equal(h.status, 3);
        assert_int_equal(h.output_length, 0);
        heard_done(&h);
}

static void test_safe_lines(void **state)
{
        (void)state;
        assert_lines("printf 'a\\r\\n\\n\\tb\\n'", "a|| b|");
        assert_lines("printf 'red \\033[31m\\nbell\\007\\n'", "red \\x1b[31m|bell\\x07|");
        assert_lines("printf 'caf\\303\\251\\nbad\\377\\303\\n'", "caf\xc3\xa9|bad\\xff\\xc3|");
        assert_lines("printf 'nul\\000here\\n'", "nul\\x00here|");
        assert_lines("printf 'turn \\342\\200\\256 round\\n'", "turn \\xe2\\x80\\xae round|");
        assert_lines("true", "");
        assert_lines("printf '\\n'", "|");
}

static void test_long_lines(void **state)
{
        struct heard h = {0};

        (void)state;
        shell(&h, "head -c 20000 /dev/zero | tr '\\0' x; echo; echo next", (struct child_options){0});
        assert_int_equal(h.lines, 4);
        assert_int_equal(h.longest, 8192);
        assert_int_equal(h.out.length, 20000 + 4 + 4);
        assert_true(str_ends_with(text_string(&h.out), "x|next|"));
        heard_done(&h);
        /* Escapes make lines longer: what is given is cut, too. */
        shell(&h, "head -c 5000 /dev/zero; echo", (struct child_options){0});
        assert_int_equal(h.lines, 3);
        assert_int_equal(h.longest, 8192);
        assert_int_equal(h.out.length, 4 * 5000 + 3);
        heard_done(&h);
        /* Three bytes a character and a limit that is no multiple of it: none is cut in two. */
        shell(&h, "i=0; while [ $i -lt 50 ]; do printf '\\342\\202\\254'; i=$((i+1)); done",
                (struct child_options){.maximum_line_bytes = 16});
        assert_int_equal(h.lines, 10);
        assert_int_equal(h.longest, 15);
        assert_null(strchr(text_string(&h.out), '\\'));
        heard_done(&h);
}

static void test_whole(void **state)
{
        struct heard h = {0};

        (void)state;
        shell(&h, "printf '{\\n\\000}'; echo note >&2", (struct child_options){.whole = true});
        assert_int_equal(h.output_length, 4);
        assert_string_equal(h.output, "{\n");
        assert_string_equal(text_string(&h.out), "");
        assert_string_equal(text_string(&h.err), "note|");
        heard_done(&h);
        shell(&h, "true", (struct child_options){.whole = true});
        assert_int_equal(h.output_length, 0);
        heard_done(&h);
}

static void test_too_much_output(void **state)
{
        struct heard h = {0};

        (void)state;
        shell(&h, "yes", (struct child_options){.maximum_output_bytes = 100000});
        assert_int_equal(h.end, END_LOST);
        assert_int_equal(h.out.length, 100000);
        heard_done(&h);
        shell(&h, "yes", (struct child_options){.maximum_output_bytes = 5, .whole = true});
        assert_int_equal(h.end, END_LOST);
        assert_string_equal(h.output, "y\ny\ny");
        heard_done(&h);
        /* Over before it could be ended. */
        shell(&h, "echo 123456", (struct child_options){.maximum_output_bytes = 5});
        assert_int_equal(h.end, END_LOST);
        assert_string_equal(text_string(&h.out), "12345|");
        heard_done(&h);
}

/* ---- what it is given ---- */

static void test_environment(void **state)
{
        static const char *const arguments[] = {"/usr/bin/env", NULL};
        struct child_options o = {.arguments = arguments, .timeout_ms = 5000};
        struct heard h = {0};

        (void)state;
        setenv("SECRET", "x", 1);
        start(&h, &o);
        assert_true(scaffold_run_until(event, &h.ended, 5000));
        assert_string_equal(text_string(&h.out),
                "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin|"
                "LANG=C.UTF-8|NO_COLOR=1|");
        heard_done(&h);
        assert_lines("cat; echo end", "end|"); /* standard input is empty */
        assert_lines("test $(ps -o pgid= -p $$) = $$ && echo leader", "leader|");
}

static void test_descriptors(void **state)
{
        int fd = open("/dev/null", O_RDONLY); /* of a library that forgets close-on-exec */

        (void)state;
        assert_true(fd > 2);
        assert_lines("i=0; while [ $i -lt 64 ]; do [ -e /proc/$$/fd/$i ] && echo $i; i=$((i+1)); done; true",
                "0|1|2|");
        close(fd);
}

static void test_signals(void **state)
{
        struct heard h = {0};
        sigset_t some, before;

        (void)state;
        signal(SIGPIPE, SIG_IGN);
        sigemptyset(&some);
        sigaddset(&some, SIGTERM);
        sigprocmask(SIG_BLOCK, &some, &before);
        shell(&h, "kill -PIPE $$; echo alive", (struct child_options){0});
        assert_int_equal(h.end, END_SIGNALLED);
        assert_int_equal(h.status, SIGPIPE);
        heard_done(&h);
        shell(&h, "kill -TERM $$; echo alive", (struct child_options){0});
        assert_int_equal(h.end, END_SIGNALLED);
        assert_int_equal(h.status, SIGTERM);
        heard_done(&h);
        sigprocmask(SIG_SETMASK, &before, NULL);
}

static void assert_not_started(const char *path, int number, const char *words)
{
        const char *arguments[] = {path, NULL};
        struct child_options o = {.arguments = arguments, .timeout_ms = 1000};
        struct heard h = {0};
        struct child_handlers handlers = {on_line, on_end, &h};
        struct error e = {0};

        assert_int_equal(child_start(event, &o, &handlers, &h.child, &e), -number);
        assert_null(h.child);
        if (!strstr(e.text, words))
                fail_msg("%s", e.text);
        scaffold_run_for(event, 20);
        assert_int_equal(h.ends, 0);
}

static void test_not_started(void **state)
{
        (void)state;
        assert_not_started("/none", ENOENT, "/none: cannot be run: No such file");
        assert_not_started("/etc/passwd", EACCES, "Permission denied");
        assert_not_started("relative", ENOENT, "relative");
}

/* ---- the end ---- */

static void test_output_closed_early(void **state)
{
        struct heard h = {0};
        uint64_t before, after;

        (void)state;
        start_shell(&h, "echo said; exec >&- 2>&-; sleep 0.5; exit 4", (struct child_options){0});
        sd_event_get_iteration(event, &before);
        assert_true(scaffold_run_until(event, &h.ended, 5000));
        sd_event_get_iteration(event, &after);
        assert_true(after - before < 12); /* a closed pipe is not read again and again */
        assert_string_equal(text_string(&h.out), "said|");
        assert_int_equal(h.status, 4);
        heard_done(&h);
}

static bool is_running(pid_t pid)
{
        char path[64], line[256] = "";
        FILE *f;

        snprintf(path, sizeof path, "/proc/%d/stat", pid);
        f = fopen(path, "re");
        if (!f)
                return false;
        if (!fgets(line, sizeof line, f))
                line[0] = 0;
        fclose(f);
        return line[0] && !strstr(line, ") Z ");
}

static bool ends_soon(pid_t pid)
{
        for (int i = 0; i < 200 && is_running(pid); i++)
                usleep(10000);
        return !is_running(pid);
}

static void test_grandchildren(void **state)
{
        struct heard h = {0};
        double began = clock_monotonic_ms();
        int pid;

        (void)state;
        shell(&h, "sleep 100 & echo $!", (struct child_options){0});
        assert_true(clock_monotonic_ms() - began < 5000);
        assert_int_equal(h.end, END_EXITED);
        pid = atoi(text_string(&h.out));
        assert_true(pid > 1);
        assert_true(ends_soon(pid));
        heard_done(&h);
        /* One that has a session of its own, and writes and writes: the end comes nevertheless. */
        shell(&h, "setsid yes & echo $!; sleep 0.1", (struct child_options){.maximum_output_bytes = 1000000});
        assert_true(h.end == END_EXITED || h.end == END_LOST);
        pid = atoi(strstr(text_string(&h.out), "y|") == text_string(&h.out) ? "0" : text_string(&h.out));
        heard_done(&h);
        if (pid > 1) /* its pipe is gone */
                assert_true(ends_soon(pid));
}

static void test_timeout(void **state)
{
        struct heard h = {0};
        double began = clock_monotonic_ms();

        (void)state;
        shell(&h, "trap 'echo bye; exit 7' TERM; while :; do sleep 0.05; done",
                (struct child_options){.timeout_ms = 300});
        assert_true(clock_monotonic_ms() - began >= 300 && clock_monotonic_ms() - began < 2000);
        assert_int_equal(h.end, END_TIMEOUT);
        assert_int_equal(h.status, 7);
        assert_string_equal(text_string(&h.out), "bye|");
        heard_done(&h);
        /* Who does not listen is killed 2 s later, with all of the group. */
        began = clock_monotonic_ms();
        shell(&h, "trap '' TERM; sleep 100; sleep 100", (struct child_options){.timeout_ms = 200});
        assert_true(clock_monotonic_ms() - began >= 2150 && clock_monotonic_ms() - began < 4000);
        assert_int_equal(h.end, END_TIMEOUT);
        assert_int_equal(h.status, SIGKILL);
        heard_done(&h);
}

static void test_cancel(void **state)
{
        struct heard h = {.cancel_at_line = true};
        double began = clock_monotonic_ms();

        (void)state;
        shell(&h, "echo begun; exec sleep 100", (struct child_options){0});
        assert_true(clock_monotonic_ms() - began < 1500);
        assert_int_equal(h.end, END_CANCELLED);
        assert_int_equal(h.status, SIGTERM);
        heard_done(&h);
}

static pid_t only_child(void)
{
        char path[64], line[64] = "";
        FILE *f;

        snprintf(path, sizeof path, "/proc/self/task/%d/children", getpid());
        f = fopen(path, "re");
        assert_non_null(f);
        if (!fgets(line, sizeof line, f))
                line[0] = 0;
        fclose(f);
        return atoi(line);
}

static void test_freed(void **state)
{
        struct heard h = {0};
        pid_t pid;

        (void)state;
        start_shell(&h, "trap '' TERM; echo x; sleep 100", (struct child_options){0});
        pid = only_child();
        assert_true(pid > 1);
        h.child = child_free(h.child);
        assert_int_equal(only_child(), 0); /* reaped */
        assert_false(is_running(pid));
        scaffold_run_for(event, 50);
        assert_int_equal(h.lines + h.ends, 0);
        heard_done(&h);
        h.free_at_line = true;
        start_shell(&h, "while :; do echo x; done", (struct child_options){0});
        scaffold_run_for(event, 200);
        assert_int_equal(h.lines, 1);
        assert_int_equal(h.ends, 0);
        assert_null(h.child);
        assert_int_equal(only_child(), 0);
        heard_done(&h);
        assert_null(child_free(NULL));
        /* So young that it may not lead its group yet. */
        for (int i = 0; i < 20; i++) {
                start_shell(&h, "sleep 100", (struct child_options){0});
                child_free(h.child);
                assert_int_equal(only_child(), 0);
                h.child = NULL;
        }
}

/* The daemon is killed: its children go with it. */
static void test_parent_dies(void **state)
{
        int report[2], status;
        pid_t parent, pid = 0;

        (void)state;
        assert_int_equal(pipe2(report, O_CLOEXEC), 0);
        parent = fork();
        assert_true(parent >= 0);
        if (parent == 0) {
                static const char *const arguments[] = {"/bin/sleep", "100", NULL};
                struct child_options o = {.arguments = arguments, .timeout_ms = 100000};
                struct child_handlers handlers = {0};
                struct child *c;
                sd_event *own;

                if (sd_event_new(&own) < 0 || child_start(own, &o, &handlers, &c, NULL) < 0)
                        _exit(1);
                pid = only_child();
                if (write(report[1], &pid, sizeof pid) < 0)
                        _exit(1);
                pause();
        }
        assert_int_equal(read(report[0], &pid, sizeof pid), sizeof pid);
        assert_true(is_running(pid));
        kill(parent, SIGKILL);
        assert_int_equal(waitpid(parent, &status, 0), parent);
        assert_true(ends_soon(pid));
        close(report[0]);
        close(report[1]);
}

static unsigned descriptors;

static void test_nothing_left(void **state)
{
        (void)state;
        assert_int_equal(only_child(), 0);
        assert_int_equal(scaffold_count_descriptors(), descriptors);
}

static int set_up(void **state)
{
        struct heard h = {0};

        (void)state;
        if (sd_event_new(&event) < 0)
                return -1;
        shell(&h, "true", (struct child_options){0}); /* the loop's own descriptors come with the first */
        heard_done(&h);
        descriptors = scaffold_count_descriptors();
        return 0;
}

static int tear_down(void **state)
{
        (void)state;
        sd_event_unref(event);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_lines),
                cmocka_unit_test(test_safe_lines),
                cmocka_unit_test(test_long_lines),
                cmocka_unit_test(test_whole),
                cmocka_unit_test(test_too_much_output),
                cmocka_unit_test(test_environment),
                cmocka_unit_test(test_descriptors),
                cmocka_unit_test(test_signals),
                cmocka_unit_test(test_not_started),
                cmocka_unit_test(test_output_closed_early),
                cmocka_unit_test(test_grandchildren),
                cmocka_unit_test(test_timeout),
                cmocka_unit_test(test_cancel),
                cmocka_unit_test(test_freed),
                cmocka_unit_test(test_parent_dies),
                cmocka_unit_test(test_nothing_left),
        };

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
