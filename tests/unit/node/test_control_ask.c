/* The commands' end, against a daemon in a process of its own, and against peers that are none. */
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
#include <grp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static char folder[] = "/tmp/gridnode-test-ask-XXXXXX";
static pid_t peer = -1;

/* ---- peers ---- */

static void on_request(struct control_client *c, const struct control_request *r, void *userdata)
{
        static char large[2 << 20];
        struct error e;

        (void)userdata;
        switch (r->operation) {
        case CONTROL_STATUS:
                control_send(c, "status", json_pack("{s:s}", "dns", "Working"));
                control_end(c, NULL);
                break;
        case CONTROL_EVENTS:
                memset(large, 'x', sizeof large);
                for (int64_t i = 0; i < r->count; i++)
                        control_send(c, "event", json_integer(i));
                control_send(c, "event", json_stringn(large, sizeof large));
                if (!r->follow)
                        control_end(c, NULL);
                break;
        case CONTROL_DIAG:
                error_set(&e, EBUSY, "diagnosis.busy", "one runs already");
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
        (void)c;
        (void)userdata;
}

static int listen_here(void)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "socket"};
        int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

        if (bind(fd, (struct sockaddr *)&address, sizeof address) < 0 || listen(fd, 1) < 0)
                _exit(1);
        return fd;
}

static void tell_ready(int fd)
{
        if (write(fd, "x", 1) != 1)
                _exit(1);
}

static void be_daemon(int ready)
{
        struct control_handlers h = {.on_request = on_request, .on_gone = on_gone};
        struct control *control = NULL;
        sd_event *event = NULL;

        if (sd_event_new(&event) < 0 || control_new(event, "socket", "no-such-group", &h, &control, NULL) < 0)
                _exit(1);
        tell_ready(ready);
        sd_event_loop(event);
        _exit(1);
}

/* Answers anything by these bytes, and ends. */
static void be_impostor(int ready, const char *answer)
{
        char line[4096];
        int fd = listen_here(), client;

        tell_ready(ready);
        client = accept(fd, NULL, NULL);
        if (client < 0 || recv(client, line, sizeof line, 0) < 0 ||
                send(client, answer, strlen(answer), MSG_NOSIGNAL) < 0)
                _exit(1);
        _exit(0);
}

/* `answer` NULL: a daemon. */
static void start(const char *answer)
{
        int fds[2];
        char c;

        assert_int_equal(pipe(fds), 0);
        peer = fork();
        assert_true(peer >= 0);
        if (peer == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL); /* a test that fails leaves nothing behind */
                close(fds[0]);
                if (answer)
                        be_impostor(fds[1], answer);
                be_daemon(fds[1]);
        }
        close(fds[1]);
        assert_int_equal(read(fds[0], &c, 1), 1);
        close(fds[0]);
}

static void stop(void)
{
        assert_int_equal(kill(peer, SIGKILL), 0);
        assert_int_equal(waitpid(peer, NULL, 0), peer);
        peer = -1;
        unlink("socket");
}

/* ---- asking ---- */

struct heard {
        int lines, stop_at, stop_with;
        struct text all; /* of short lines */
};

static int on_line(const char *member, json_t *value, void *userdata)
{
        struct heard *h = userdata;
        _cleanup_free_ char *text = json_to_text(value);

        if (strlen(text) < 100)
                text_addf(&h->all, "%s=%s ", member, text);
        return ++h->lines == h->stop_at ? h->stop_with : 0;
}

static int ask(const char *request, struct heard *h, int stop_fd, struct error *ret_error)
{
        json_auto_t *j = json_loads(request, 0, NULL);

        assert_non_null(j);
        return control_ask("socket", j, on_line, h, stop_fd, ret_error);
}

static void test_asks(void **state)
{
        struct heard h = {0};
        struct error e = {0};

        (void)state;
        start(NULL);
        assert_int_equal(ask("{\"op\":\"status\"}", &h, -1, &e), 0);
        assert_string_equal(text_string(&h.all), "status={\"dns\":\"Working\"} ");
        text_done(&h.all);
        h = (struct heard){0};
        assert_int_equal(ask("{\"op\":\"events\",\"count\":3}", &h, -1, &e), 0);
        assert_string_equal(text_string(&h.all), "event=0 event=1 event=2 ");
        assert_int_equal(h.lines, 4);
        text_done(&h.all);
        h = (struct heard){0};
        assert_int_equal(ask("{\"op\":\"diag\"}", &h, -1, &e), -EBUSY);
        assert_string_equal(e.code, "diagnosis.busy");
        assert_string_equal(e.text, "one runs already");
        assert_int_equal(ask("{\"op\":\"bake\"}", &h, -1, &e), -EBADMSG);
        assert_int_equal(h.lines, 0);
        stop();
}

static void test_stops(void **state)
{
        struct heard h = {.stop_at = 2, .stop_with = 1};
        struct error e = {0};
        int fds[2];

        (void)state;
        start(NULL);
        assert_int_equal(ask("{\"op\":\"events\",\"count\":9,\"follow\":true}", &h, -1, &e), 0);
        assert_int_equal(h.lines, 2);
        text_done(&h.all);
        h = (struct heard){.stop_at = 3, .stop_with = -EIO};
        assert_int_equal(ask("{\"op\":\"events\",\"count\":9,\"follow\":true}", &h, -1, &e), -EIO);
        text_done(&h.all);
        assert_int_equal(pipe(fds), 0);
        close(fds[1]);
        h = (struct heard){0};
        assert_int_equal(ask("{\"op\":\"events\",\"follow\":true}", &h, fds[0], &e), -EINTR);
        text_done(&h.all);
        close(fds[0]);
        stop();
}

static void test_no_daemon(void **state)
{
        struct heard h = {0};
        struct error e = {0};

        (void)state;
        assert_int_equal(ask("{\"op\":\"status\"}", &h, -1, &e), -ENOENT);
        assert_string_equal(e.code, "control.not-running");
        assert_non_null(strstr(e.text, "gridnode run"));
        start(NULL);
        assert_int_equal(kill(peer, SIGKILL), 0);
        assert_int_equal(waitpid(peer, NULL, 0), peer);
        assert_int_equal(ask("{\"op\":\"status\"}", &h, -1, &e), -ECONNREFUSED);
        assert_string_equal(e.code, "control.not-running");
        /* What it left is no hindrance to the next one. */
        start(NULL);
        assert_int_equal(ask("{\"op\":\"status\"}", &h, -1, &e), 0);
        text_done(&h.all);
        stop();
}

/* In a process of its own, as nobody. */
static int ask_as_nobody(void)
{
        struct heard h = {0};
        struct error e = {0};

        if (setgroups(0, NULL) < 0 || setgid(65534) < 0 || setuid(65534) < 0)
                return 2;
        if (ask("{\"op\":\"status\"}", &h, -1, &e) != -EACCES)
                return 1;
        return strstr(e.text, "usermod -aG gridnode") ? 0 : 1;
}

static void test_not_in_the_group(void **state)
{
        int status;
        pid_t pid;

        (void)state;
        if (geteuid() != 0)
                skip();
        assert_int_equal(chmod(folder, 0755), 0);
        start(NULL);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                _exit(ask_as_nobody());
        assert_int_equal(waitpid(pid, &status, 0), pid);
        stop();
        assert_int_equal(chmod(folder, 0700), 0);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), 0);
}

static void assert_answer(const char *answer, int number, const char *text)
{
        struct heard h = {0};
        struct error e = {0};

        start(answer);
        assert_int_equal(ask("{\"op\":\"status\"}", &h, -1, &e), -number);
        assert_string_equal(e.text, text);
        text_done(&h.all);
        assert_int_equal(waitpid(peer, NULL, 0), peer);
        unlink("socket");
}

static void test_odd_answers(void **state)
{
        (void)state;
        assert_answer("{\"status\":{}}\n", ECONNRESET,
                "the daemon at socket ended before its answer was over; see its log");
        assert_answer("{\"done\":true", ECONNRESET,
                "the daemon at socket ended before its answer was over; see its log");
        assert_answer("HTTP/1.1 400 Bad Request\n", EBADMSG,
                "the daemon's answer: no JSON (line 1, column 4): '[' or '{' expected near 'HTTP'");
        assert_answer("{\"error\":7}\n", EREMOTEIO, "the daemon failed");
        assert_answer("{\"error\":{\"code\":1,\"text\":[],\"number\":-3}}\n", EREMOTEIO, "the daemon failed");
        assert_answer("{\"error\":{\"text\":\"%s%n\",\"number\":99999}}\n", EREMOTEIO, "%s%n");
}

static int make_folder(void **state)
{
        (void)state;
        return mkdtemp(folder) && chdir(folder) == 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
        (void)state;
        if (peer > 0)
                kill(peer, SIGKILL);
        unlink("socket");
        return chdir("/") == 0 ? rmdir(folder) : -1;
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_asks),
                cmocka_unit_test(test_stops),
                cmocka_unit_test(test_no_daemon),
                cmocka_unit_test(test_not_in_the_group),
                cmocka_unit_test(test_odd_answers),
        };

        return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
