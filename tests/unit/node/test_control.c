#include "node/control.h"

#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define CLIENTS_MAX 32

static char folder[] = "/tmp/gridnode-test-control-XXXXXX";

/* ---- a daemon in this process ---- */

struct daemon {
        sd_event *event;
        struct control *control;
        struct control_client *asking[CLIENTS_MAX]; /* requests that are kept open */
        size_t asking_count;
        int requests, gone;
        bool in_handler;
        struct control_request last;
};

/* status is answered at once, events later or never, diag by an error. */
static void on_request(struct control_client *c, const struct control_request *r, void *userdata)
{
        struct daemon *d = userdata;
        struct error e;

        d->requests++;
        d->last = *r;
        switch (r->operation) {
        case CONTROL_STATUS:
                control_send(c, "status", json_pack("{s:i}", "request", d->requests));
                control_end(c, NULL);
                break;
        case CONTROL_EVENTS:
                assert_true(d->asking_count < CLIENTS_MAX);
                d->asking[d->asking_count++] = c;
                break;
        case CONTROL_DIAG:
                error_set(&e, EBUSY, "diagnosis.busy", "one runs already: \xff");
                control_end(c, &e);
                break;
        case CONTROL_UPDATE:
        case CONTROL_UPDATE_CANCEL:
        case CONTROL_UPDATE_HISTORY:
                fail();
        }
}

static void on_gone(struct control_client *c, void *userdata)
{
        struct daemon *d = userdata;

        assert_false(d->in_handler);
        for (size_t i = 0; i < d->asking_count; i++)
                if (d->asking[i] == c)
                        d->asking[i] = d->asking[--d->asking_count];
        d->gone++;
}

static int try_start(struct daemon *d, const char *path, const char *group, struct error *ret_error)
{
        struct control_handlers h = {on_request, on_gone, d};

        *d = (struct daemon){0};
        assert_true(sd_event_new(&d->event) >= 0);
        return control_new(d->event, path, group, &h, &d->control, ret_error);
}

static void start(struct daemon *d)
{
        struct error e = {0};

        if (try_start(d, "socket", "no-such-group", &e) < 0)
                fail_msg("%s", e.text);
}

static void stop(struct daemon *d)
{
        d->control = control_free(d->control);
        d->event = sd_event_unref(d->event);
        assert_int_equal(access("socket", F_OK), -1);
}

/* Until nothing is left to do. */
static void turn(struct daemon *d)
{
        while (sd_event_run(d->event, 5000) > 0)
                ;
}

/* ---- clients ---- */

static int connect_to(const char *path)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

        str_copy(address.sun_path, sizeof address.sun_path, path);
        assert_true(fd >= 0);
        assert_int_equal(connect(fd, (struct sockaddr *)&address, sizeof address), 0);
        return fd;
}

static void say(struct daemon *d, int fd, const char *text)
{
        assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
        turn(d);
}

static void assert_hears(int fd, const char *wanted)
{
        char text[4096];
        ssize_t n = recv(fd, text, sizeof text - 1, 0);

        assert_true(n >= 0);
        text[n] = '\0';
        assert_string_equal(text, wanted);
}

static void assert_hears_nothing(int fd)
{
        char c;

        assert_int_equal(recv(fd, &c, 1, 0), -1);
        assert_int_equal(errno, EAGAIN);
}

static void assert_is_over(int fd)
{
        char c;
        ssize_t n = recv(fd, &c, 1, 0);

        assert_true(n == 0 || (n < 0 && errno == ECONNRESET));
        close(fd);
}

#define DONE "{\"done\":true}\n"

/* ---- requests ---- */

static void test_requests(void **state)
{
        static const struct {
                const char *text;
                struct control_request wanted;
        } cases[] = {
                {"{\"op\":\"status\"}", {.operation = CONTROL_STATUS}},
                {"{\"op\":\"events\"}", {.operation = CONTROL_EVENTS, .count = 50}},
                {"{\"op\":\"events\",\"count\":7,\"follow\":true}", {CONTROL_EVENTS, 7, true, 0}},
                {"{\"op\":\"diag\"}", {.operation = CONTROL_DIAG, .budget_s = 5}},
                {" {\"op\":\"diag\",\"budget_s\":0.5}\r", {.operation = CONTROL_DIAG, .budget_s = 0.5}},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                struct control_request r;

                assert_int_equal(control_request_parse(cases[i].text, strlen(cases[i].text), &r, NULL), 0);
                assert_int_equal(r.operation, cases[i].wanted.operation);
                assert_int_equal(r.count, cases[i].wanted.count);
                assert_int_equal(r.follow, cases[i].wanted.follow);
                assert_true(r.budget_s == cases[i].wanted.budget_s);
        }
}

static struct control_request parsed(const char *text)
{
        struct control_request r;
        struct error e = {0};

        if (control_request_parse(text, strlen(text), &r, &e) < 0)
                fail_msg("%s", e.text);
        return r;
}

static void test_requests_of_updates(void **state)
{
        struct control_request r = parsed("{\"op\":\"update\",\"action\":\"dry-run\"}");

        (void)state;
        assert_int_equal(r.operation, CONTROL_UPDATE);
        assert_int_equal(r.job.action, UPDATE_DRY_RUN);
        assert_true(r.job.reboot && !r.job.again);
        assert_string_equal(r.job.channel, "");
        assert_string_equal(r.job.by, "local");
        assert_string_equal(r.job.id, "");
        r = parsed("{\"op\":\"update\",\"action\":\"now\",\"again\":true,\"reboot\":false,\"channel\":"
                   "\"testing\","
                   "\"by\":\"J\\u00fcrg\\u0007\"}");
        assert_true(!r.job.reboot && r.job.again);
        assert_string_equal(r.job.channel, "testing");
        assert_string_equal(r.job.by, "J??rg?");
        r = parsed("{\"op\":\"update.cancel\",\"id\":\"u-4kq8x0c2m7r1tz9w\"}");
        assert_int_equal(r.operation, CONTROL_UPDATE_CANCEL);
        assert_string_equal(r.id, "u-4kq8x0c2m7r1tz9w");
        assert_string_equal(parsed("{\"op\":\"update.cancel\"}").id, "");
        r = parsed("{\"op\":\"update.history\",\"count\":3}");
        assert_int_equal(r.operation, CONTROL_UPDATE_HISTORY);
        assert_int_equal(r.count, 3);
}

static void test_bad_requests(void **state)
{
        static const char *const cases[][2] = {
                {"{}", "request: member 'op' is missing"},
                {"{\"op\":\"reboot\"}", "request: member 'op' is not status, events, diag, update, "
                                        "update.cancel or update.history"},
                {"{\"op\":7}", "request: member 'op' is not a text"},
                {"{\"op\":\"status\",\"count\":1}", "request: member 'count' is not known here"},
                {"{\"op\":\"events\",\"count\":0}", "request: member 'count' is 0, not between 1 and 1000"},
                {"{\"op\":\"events\",\"count\":1001}",
                        "request: member 'count' is 1001, not between 1 and 1000"},
                {"{\"op\":\"events\",\"follow\":1}", "request: member 'follow' is not true or false"},
                {"{\"op\":\"diag\",\"budget_s\":0}",
                        "request: member 'budget_s' is 0, not between 0.1 and 600"},
                {"{\"op\":\"update\"}", "request: member 'action' is missing"},
                {"{\"op\":\"update\",\"action\":\"install\"}",
                        "request: member 'action' is not check, dry-run, download or now"},
                {"{\"op\":\"update\",\"action\":\"now\",\"channel\":\"../x\"}",
                        "request: member 'channel' is not a channel's name: a-z, 0-9 and -"},
                {"{\"op\":\"update\",\"action\":\"now\",\"id\":\"u-1\"}",
                        "request: member 'id' is not known here"},
                {"{\"op\":\"update\",\"action\":\"now\",\"again\":1}",
                        "request: member 'again' is not true or false"},
                {"{\"op\":\"update.cancel\",\"id\":\"../x\"}", "request: member 'id' is no id"},
                {"{\"op\":\"update.history\",\"count\":0}",
                        "request: member 'count' is 0, not between 1 and 1000"},
                {"[]", "request: no JSON object"},
        };

        (void)state;
        for (size_t i = 0; i < ELEMENTS(cases); i++) {
                struct control_request r;
                struct error e;

                assert_int_equal(control_request_parse(cases[i][0], strlen(cases[i][0]), &r, &e), -EBADMSG);
                assert_string_equal(e.text, cases[i][1]);
        }
}

static void test_answers(void **state)
{
        struct daemon d;
        int fd;

        (void)state;
        start(&d);
        fd = connect_to("socket");
        say(&d, fd, "{\"op\":\"status\"}\n");
        assert_hears(fd, "{\"status\":{\"request\":1}}\n" DONE);
        say(&d, fd, "{\"op\":\"diag\",\"budget_s\":2}\n");
        assert_hears(fd, "{\"error\":{\"code\":\"diagnosis.busy\",\"text\":\"one runs already: "
                         "\\\\xff\",\"number\":16}}\n");
        assert_true(d.last.budget_s == 2);
        close(fd);
        turn(&d);
        assert_int_equal(d.gone, 0); /* nothing was open any more */
        stop(&d);
}

static void test_in_pieces_and_in_one(void **state)
{
        struct daemon d;
        int fd;

        (void)state;
        start(&d);
        fd = connect_to("socket");
        for (const char *s = "{\"op\":\"status\"}\n"; *s; s++)
                say(&d, fd, (char[]){*s, '\0'});
        assert_hears(fd, "{\"status\":{\"request\":1}}\n" DONE);
        say(&d, fd, "{\"op\":\"status\"}\n{\"op\":\"events\"}\n{\"op\":\"status\"}\n");
        /* The third waits until the second is answered. */
        assert_hears(fd, "{\"status\":{\"request\":2}}\n" DONE);
        assert_hears_nothing(fd);
        assert_int_equal(d.asking_count, 1);
        control_send(d.asking[0], "event", json_pack("{s:i}", "seq", 1));
        control_end(d.asking[0], NULL);
        d.asking_count = 0;
        turn(&d);
        assert_hears(fd, "{\"event\":{\"seq\":1}}\n" DONE "{\"status\":{\"request\":4}}\n" DONE);
        close(fd);
        stop(&d);
}

/* As `printf … | nc -U` does. */
static void test_half_closed(void **state)
{
        struct daemon d;
        int fd;

        (void)state;
        start(&d);
        fd = connect_to("socket");
        assert_int_equal(send(fd, "{\"op\":\"events\"}\n{\"op\":\"status\"}\n", 32, 0), 32);
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        turn(&d);
        assert_int_equal(d.asking_count, 1);
        control_end(d.asking[0], NULL);
        d.asking_count = 0;
        turn(&d);
        assert_hears(fd, DONE "{\"status\":{\"request\":2}}\n" DONE);
        assert_is_over(fd);
        /* One that says nothing at all. */
        fd = connect_to("socket");
        assert_int_equal(shutdown(fd, SHUT_WR), 0);
        turn(&d);
        assert_is_over(fd);
        stop(&d);
}

/* ---- bad clients ---- */

static void test_garbage(void **state)
{
        struct daemon d;
        int fd;

        (void)state;
        start(&d);
        fd = connect_to("socket");
        say(&d, fd, "\n");
        assert_hears(fd, "{\"error\":{\"code\":\"json.malformed\",\"text\":\"request: no JSON (line 1, "
                         "column 0): '[' or '{' "
                         "expected near end of file\",\"number\":74}}\n");
        say(&d, fd, "\xff\xfe\x01{{{{[[[\n");
        assert_hears(fd, "{\"error\":{\"code\":\"json.malformed\",\"text\":\"request: no JSON (line 1, "
                         "column 0): unable to "
                         "decode byte 0xff\",\"number\":74}}\n");
        assert_int_equal(d.requests, 0);
        say(&d, fd, "{\"op\":\"status\"}\n");
        assert_hears(fd, "{\"status\":{\"request\":1}}\n" DONE);
        close(fd);
        stop(&d);
}

static void test_long_lines(void **state)
{
        char line[5121];
        struct daemon d;
        int fd;

        (void)state;
        start(&d);
        memset(line, ' ', sizeof line);
        memcpy(line, "{\"op\":\"status\"}", 15);
        line[4095] = '\n';
        line[4096] = '\0';
        fd = connect_to("socket");
        say(&d, fd, line);
        assert_hears(fd, "{\"status\":{\"request\":1}}\n" DONE);
        line[4095] = line[4096] = ' ';
        line[5119] = '\n';
        line[5120] = '\0';
        say(&d, fd, line);
        assert_hears(fd, "{\"error\":{\"code\":\"control.too-long\",\"text\":\"request: a line of more than "
                         "4096 bytes\","
                         "\"number\":27}}\n");
        assert_is_over(fd);
        assert_int_equal(d.requests, 1);
        stop(&d);
}

static void test_too_many(void **state)
{
        struct daemon d;
        int fds[CLIENTS_MAX], one_more;

        (void)state;
        start(&d);
        for (int i = 0; i < CLIENTS_MAX; i++) {
                fds[i] = connect_to("socket");
                turn(&d);
        }
        one_more = connect_to("socket");
        turn(&d);
        assert_hears(one_more, "{\"error\":{\"code\":\"control.busy\",\"text\":\"the daemon has as many "
                               "clients as it takes; "
                               "end one of them\",\"number\":16}}\n");
        assert_is_over(one_more);
        close(fds[7]);
        turn(&d);
        fds[7] = connect_to("socket");
        say(&d, fds[7], "{\"op\":\"status\"}\n");
        assert_hears(fds[7], "{\"status\":{\"request\":1}}\n" DONE);
        for (int i = 0; i < CLIENTS_MAX; i++)
                close(fds[i]);
        turn(&d);
        stop(&d);
}

static void test_goes_in_the_midst(void **state)
{
        struct daemon d;
        int fd;

        (void)state;
        start(&d);
        fd = connect_to("socket");
        say(&d, fd, "{\"op\":\"events\",\"follow\":true}\n");
        assert_int_equal(d.asking_count, 1);
        close(fd);
        /* Before the loop has heard of it: the pointer is still good. */
        control_send(d.asking[0], "event", json_object());
        control_send(d.asking[0], "event", json_object());
        assert_int_equal(d.gone, 0);
        turn(&d);
        assert_int_equal(d.gone, 1);
        assert_int_equal(d.asking_count, 0);
        stop(&d);
}

static json_t *large(size_t bytes)
{
        char *text = malloc(bytes);
        json_t *value;

        assert_non_null(text);
        memset(text, 'x', bytes);
        value = json_stringn(text, bytes);
        free(text);
        return value;
}

static void test_does_not_read(void **state)
{
        int fd, other, sent = 0;
        struct daemon d;

        (void)state;
        start(&d);
        fd = connect_to("socket");
        other = connect_to("socket");
        say(&d, fd, "{\"op\":\"events\",\"follow\":true}\n");
        while (d.asking_count == 1 && sent < 20) {
                d.in_handler = true;
                control_send(d.asking[0], "event", large(1 << 20));
                control_send(d.asking[0], "event", json_null());
                d.in_handler = false;
                sent++;
                turn(&d);
        }
        assert_in_range(sent, 8, 12);
        assert_int_equal(d.gone, 1);
        say(&d, other, "{\"op\":\"status\"}\n");
        assert_hears(other, "{\"status\":{\"request\":2}}\n" DONE);
        close(fd);
        close(other);
        stop(&d);
}

static void test_reads_slowly(void **state)
{
        struct text all = {0};
        char part[9001];
        struct daemon d;
        ssize_t n;
        int fd;

        (void)state;
        start(&d);
        fd = connect_to("socket");
        say(&d, fd, "{\"op\":\"events\"}\n");
        for (int i = 0; i < 3; i++)
                control_send(d.asking[0], "event", large(1 << 20));
        control_end(d.asking[0], NULL);
        d.asking_count = 0;
        while ((n = recv(fd, part, sizeof part - 1, 0)) > 0) {
                part[n] = '\0';
                text_add(&all, part);
                while (sd_event_run(d.event, 0) > 0)
                        ;
        }
        assert_int_equal(all.length, 3 * ((1 << 20) + strlen("{\"event\":\"\"}\n")) + strlen(DONE));
        assert_true(str_ends_with(text_string(&all), "xx\"}\n" DONE));
        text_done(&all);
        /* It is as good as any after that. */
        say(&d, fd, "{\"op\":\"status\"}\n");
        assert_hears(fd, "{\"status\":{\"request\":2}}\n" DONE);
        close(fd);
        stop(&d);
}

static void test_ends_with_clients(void **state)
{
        struct daemon d;
        int fd, idle;

        (void)state;
        start(&d);
        fd = connect_to("socket");
        idle = connect_to("socket");
        say(&d, fd, "{\"op\":\"events\",\"follow\":true}\n");
        control_send(d.asking[0], "event", json_integer(1));
        stop(&d);
        assert_int_equal(d.gone, 1);
        assert_hears(fd, "{\"event\":1}\n");
        assert_is_over(fd);
        assert_is_over(idle);
}

/* ---- the socket ---- */

static void test_modes(void **state)
{
        struct group *group = getgrgid(1);
        mode_t before = umask(0);
        struct error e = {0};
        struct daemon d;
        struct stat st;
        int fd;

        (void)state;
        start(&d);
        assert_int_equal(umask(before), 0); /* left as it was */
        assert_int_equal(lstat("socket", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0660);
        assert_int_equal(st.st_gid, getegid());
        fd = connect_to("socket");
        close(fd);
        stop(&d);
        if (geteuid() != 0 || !group)
                return;
        assert_int_equal(try_start(&d, "socket", group->gr_name, &e), 0);
        assert_int_equal(lstat("socket", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0660);
        assert_int_equal(st.st_gid, 1);
        stop(&d);
}

static void assert_not_started(int number, const char *part)
{
        struct error e = {0};
        struct daemon d;

        assert_int_equal(try_start(&d, "socket", "no-such-group", &e), -number);
        assert_null(d.control);
        assert_int_equal(e.number, number);
        assert_non_null(strstr(e.text, part));
        sd_event_unref(d.event);
}

static void leave_stale_socket(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof address), 0);
        close(fd);
}

static void test_what_is_there(void **state)
{
        struct daemon d;
        struct stat st;
        int fd;

        (void)state;
        leave_stale_socket();
        start(&d);
        assert_not_started(EADDRINUSE, "listen on socket: another process answers");
        fd = connect_to("socket"); /* the first one still has it */
        say(&d, fd, "{\"op\":\"status\"}\n");
        assert_hears(fd, "{\"status\":{\"request\":1}}\n" DONE);
        close(fd);
        stop(&d);
        fd = open("target", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
        close(fd);
        assert_int_equal(symlink("target", "socket"), 0);
        assert_not_started(ELOOP, "symbolic link");
        assert_int_equal(stat("target", &st), 0);
        assert_int_equal(st.st_mode & 07777, 0600);
        assert_int_equal(unlink("socket") + rename("target", "socket"), 0);
        assert_not_started(EEXIST, "no socket");
        assert_int_equal(unlink("socket") + mkdir("socket", 0700), 0);
        assert_not_started(EEXIST, "no socket");
        assert_int_equal(rmdir("socket"), 0);
}

static void test_missing_folder(void **state)
{
        struct error e = {0};
        struct daemon d;

        (void)state;
        assert_int_equal(try_start(&d, "missing/socket", "x", &e), -ENOENT);
        assert_non_null(strstr(e.text, "missing/socket"));
        sd_event_unref(d.event);
}

static int make_folder(void **state)
{
        (void)state;
        return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
        (void)state;
        return chdir("/") == 0 ? rmdir(folder) : -1;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_requests),
                cmocka_unit_test(test_requests_of_updates),
                cmocka_unit_test(test_bad_requests),
                cmocka_unit_test(test_answers),
                cmocka_unit_test(test_in_pieces_and_in_one),
                cmocka_unit_test(test_half_closed),
                cmocka_unit_test(test_garbage),
                cmocka_unit_test(test_long_lines),
                cmocka_unit_test(test_too_many),
                cmocka_unit_test(test_goes_in_the_midst),
                cmocka_unit_test(test_does_not_read),
                cmocka_unit_test(test_reads_slowly),
                cmocka_unit_test(test_ends_with_clients),
                cmocka_unit_test(test_modes),
                cmocka_unit_test(test_what_is_there),
                cmocka_unit_test(test_missing_folder),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
