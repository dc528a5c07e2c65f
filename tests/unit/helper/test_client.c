#include "helper/client.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/text.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

/* ---- a helper of the test's own, in this very process ---- */

struct fake {
        char folder[32], path[64];
        int listener, fd;
        sd_event *event;
        struct helper_client *client; /* of it */
};

static void fake_listen(struct fake *f)
{
        struct sockaddr_un address = {.sun_family = AF_UNIX};

        str_copy(address.sun_path, sizeof address.sun_path, f->path);
        f->listener = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
        assert_int_equal(bind(f->listener, (struct sockaddr *)&address, sizeof address), 0);
        assert_int_equal(listen(f->listener, 8), 0);
}

static int heard_order;

static sd_event *an_event(void)
{
        sd_event *event = NULL;

        heard_order = 0;
        assert_true(sd_event_new(&event) >= 0);
        return event;
}

static struct helper_client *a_client(sd_event *event, const char *path)
{
        struct helper_client *c = NULL;
        struct error e;

        if (helper_client_new(event, path, NULL, NULL, &c, &e) < 0)
                fail_msg("%s", e.text);
        return c;
}

static void fake_begin(struct fake *f)
{
        *f = (struct fake){.folder = "/tmp/test-client-XXXXXX", .fd = -1};
        assert_non_null(mkdtemp(f->folder));
        snprintf(f->path, sizeof f->path, "%s/s", f->folder);
        fake_listen(f);
        f->event = an_event();
        f->client = a_client(f->event, f->path);
}

static void fake_end(struct fake *f)
{
        assert_null(helper_client_free(f->client));
        sd_event_unref(f->event);
        close(f->listener);
        if (f->fd >= 0)
                close(f->fd);
        unlink(f->path);
        rmdir(f->folder);
}

static void fake_accept(struct fake *f)
{
        f->fd = accept(f->listener, NULL, NULL);
        assert_true(f->fd >= 0);
}

static void fake_begin_connected(struct fake *f)
{
        fake_begin(f);
        fake_accept(f);
}

/* The next request, which must be there; "" when the client has gone. */
static const char *fake_read(struct fake *f)
{
        static char data[65536];
        ssize_t n = recv(f->fd, data, sizeof data - 1, MSG_DONTWAIT);

        assert_true(n >= 0);
        data[n] = 0;
        return data;
}

static bool fake_has_request(const struct fake *f)
{
        struct pollfd p = {.fd = f->fd, .events = POLLIN};

        return poll(&p, 1, 0) == 1;
}

static void fake_say(struct fake *f, const char *text)
{
        assert_int_equal(send(f->fd, text, strlen(text), 0), (ssize_t)strlen(text));
}

#define DONE "{\"ok\":true,\"version\":\"1\"}"
#define FAILED(number) \
        "{\"ok\":false,\"number\":" #number ",\"code\":\"helper.route\",\"error\":\"no such way\"}"

/* ---- the asker ---- */

struct heard {
        int count, result, order;
        struct error error;
        struct helper_client *ask_again, **free_it;
};

static void on_answer(int result, const struct error *e, void *userdata)
{
        static const struct helper_request hello = {.operation = HELPER_HELLO};
        struct heard *h = userdata;

        h->count++;
        h->result = result;
        h->error = *e;
        h->order = ++heard_order;
        if (h->ask_again) {
                struct helper_client *c = h->ask_again;

                h->ask_again = NULL;
                assert_int_equal(helper_client_ask(c, &hello, on_answer, h), 0);
        }
        if (h->free_it)
                *h->free_it = helper_client_free(*h->free_it);
}

static void ask(struct helper_client *c, struct heard *h)
{
        static const struct helper_request hello = {.operation = HELPER_HELLO};

        assert_int_equal(helper_client_ask(c, &hello, on_answer, h), 0);
}

static void turn(sd_event *event)
{
        while (sd_event_run(event, 20000) > 0)
                ;
}

static void wait_for(sd_event *event, const struct heard *h, int count)
{
        for (int i = 0; i < 500 && h->count < count; i++)
                assert_true(sd_event_run(event, 100000) >= 0);
        assert_int_equal(h->count, count);
}

static void test_in_order(void **state)
{
        (void)state;
        struct heard a = {0}, b = {0}, c = {0};
        struct fake f;

        fake_begin_connected(&f);
        ask(f.client, &a);
        ask(f.client, &b);
        ask(f.client, &c);
        assert_int_equal(a.count, 0);
        assert_string_equal(fake_read(&f), "{\"op\":\"hello\"}");
        turn(f.event);
        assert_false(fake_has_request(&f)); /* one at a time */
        fake_say(&f, DONE);
        turn(f.event);
        assert_int_equal(a.count, 1);
        assert_int_equal(a.result, 0);
        fake_read(&f);
        fake_say(&f, FAILED(17));
        turn(f.event);
        assert_int_equal(b.count, 1);
        assert_int_equal(b.result, -17);
        assert_string_equal(b.error.code, "helper.route");
        assert_string_equal(b.error.text, "no such way");
        fake_read(&f);
        fake_say(&f, DONE);
        turn(f.event);
        assert_int_equal(c.count, 1);
        assert_int_equal(c.result, 0);
        assert_int_equal(c.order, 3);
        assert_null(helper_client_free(NULL));
        fake_end(&f);
}

/* Ends without an answer: everybody hears of it, and the next question finds the next helper. */
static void test_epipe(void **state)
{
        (void)state;
        struct heard a = {0}, b = {0};
        struct fake f;

        fake_begin_connected(&f);
        a.ask_again = f.client;
        ask(f.client, &a);
        ask(f.client, &b);
        close(f.fd);
        f.fd = -1;
        wait_for(f.event, &b, 1);
        assert_int_equal(a.count, 1);
        assert_int_equal(a.result, -EPIPE);
        assert_int_equal(b.result, -EPIPE);
        fake_accept(&f); /* what a asked from within */
        assert_string_equal(fake_read(&f), "{\"op\":\"hello\"}");
        fake_say(&f, DONE);
        wait_for(f.event, &a, 2);
        assert_int_equal(a.result, 0);
        fake_end(&f);
}

static void test_nobody_there(void **state)
{
        (void)state;
        struct helper_client *client = NULL;
        struct heard a = {0};
        struct error e = {0};
        struct fake f;

        fake_begin_connected(&f);
        assert_int_equal(helper_client_new(f.event, "/nonexistent/socket", NULL, NULL, &client, &e), -ENOENT);
        assert_null(client);
        assert_non_null(strstr(e.text, "/nonexistent/socket"));
        close(f.fd);
        f.fd = -1;
        close(f.listener);
        turn(f.event);
        ask(f.client, &a);
        assert_int_equal(a.count, 0); /* never from within */
        wait_for(f.event, &a, 1);
        assert_int_equal(a.result, -ECONNREFUSED);
        assert_non_null(strstr(a.error.text, f.path));
        /* It is back. */
        unlink(f.path);
        fake_listen(&f);
        ask(f.client, &a);
        fake_accept(&f);
        fake_say(&f, DONE);
        wait_for(f.event, &a, 2);
        assert_int_equal(a.result, 0);
        fake_end(&f);
}

static void test_bad_answers(void **state)
{
        (void)state;
        static const char *const answers[] = {"x", "{}", "[]", "{\"ok\":true}", DONE DONE};

        for (size_t i = 0; i < ELEMENTS(answers); i++) {
                struct heard a = {0}, b = {0};
                struct fake f;

                fake_begin_connected(&f);
                ask(f.client, &a);
                ask(f.client, &b);
                fake_say(&f, answers[i]);
                wait_for(f.event, &b, 1);
                assert_int_equal(a.result, -EBADMSG);
                assert_int_equal(b.result, -EBADMSG);
                fake_read(&f);
                assert_string_equal(fake_read(&f), ""); /* gone */
                fake_end(&f);
        }
}

/* An answer that nobody waits for, and one longer than any. */
static void test_odd_answers(void **state)
{
        (void)state;
        _cleanup_free_ char *big = xmalloc(20000);
        struct heard a = {0};
        struct fake f;

        fake_begin_connected(&f);
        fake_say(&f, DONE);
        turn(f.event);
        assert_string_equal(fake_read(&f), "");
        close(f.fd);
        ask(f.client, &a);
        fake_accept(&f);
        memset(big, ' ', 19999);
        big[19999] = 0;
        fake_say(&f, big);
        wait_for(f.event, &a, 1);
        assert_int_equal(a.result, -EMSGSIZE);
        fake_end(&f);
}

/* It frees the client that tells it. */
static void test_freed_within(void **state)
{
        (void)state;

        for (int how = 0; how < 3; how++) {
                struct heard a = {0}, b = {0};
                struct fake f;

                fake_begin_connected(&f);
                a.free_it = &f.client;
                ask(f.client, &a);
                ask(f.client, &b);
                if (how == 0)
                        fake_say(&f, DONE);
                else if (how == 1)
                        fake_say(&f, "garbage");
                else
                        shutdown(f.fd, SHUT_RDWR);
                wait_for(f.event, &a, 1);
                turn(f.event);
                assert_null(f.client);
                assert_int_equal(a.count, 1);
                /* Told of a connection's end with the first, or not any more. */
                assert_int_equal(b.count, how == 0 ? 0 : 1);
                fake_end(&f);
        }
}

static void test_full_queue(void **state)
{
        (void)state;
        static const struct helper_request hello = {.operation = HELPER_HELLO};
        struct heard a = {0};
        struct fake f;
        int accepted = 0;

        fake_begin(&f);
        while (helper_client_ask(f.client, &hello, on_answer, &a) == 0)
                accepted++;
        assert_in_range(accepted, 8, 64);
        assert_int_equal(helper_client_ask(f.client, &hello, on_answer, &a), -ENOBUFS);
        f.client = helper_client_free(f.client);
        turn(f.event);
        assert_int_equal(a.count, 0);
        fake_end(&f);
}

/* After ten seconds; the answer that comes too late is nobody else's. What was not sent is never sent. */
static void test_timeout(void **state)
{
        (void)state;
        struct heard a = {0}, b = {0}, c = {0};
        struct timespec began, ended;
        struct fake f;

        fake_begin_connected(&f);
        clock_gettime(CLOCK_MONOTONIC, &began);
        ask(f.client, &a);
        ask(f.client, &b);
        wait_for(f.event, &b, 1);
        clock_gettime(CLOCK_MONOTONIC, &ended);
        assert_in_range(ended.tv_sec - began.tv_sec, 9, 12);
        assert_int_equal(a.result, -ETIMEDOUT);
        assert_int_equal(b.result, -ETIMEDOUT);
        ask(f.client, &c);
        fake_read(&f);
        fake_say(&f, FAILED(1)); /* a's */
        turn(f.event);
        assert_int_equal(a.count, 1);
        assert_int_equal(c.count, 0);
        fake_read(&f); /* c's: b's was not sent */
        fake_say(&f, DONE);
        wait_for(f.event, &c, 1);
        assert_int_equal(c.result, 0);
        assert_false(fake_has_request(&f));
        assert_int_equal(b.count, 1);
        fake_end(&f);
}

/* ---- the real helper, as a child ---- */

static void test_child(void **state)
{
        (void)state;
        struct helper_request bad = {.operation = HELPER_NETWORK_APPLY};
        char *nowhere[] = {"nowhere0"};
        struct helper_client *client = NULL;
        sd_event *event = an_event();
        struct heard a = {0};
        struct error e;

        if (helper_client_new(event, NULL, HELPER_PROGRAM, NULL, &client, &e) < 0)
                fail_msg("%s", e.text);
        ask(client, &a);
        wait_for(event, &a, 1);
        assert_int_equal(a.result, 0);
        bad.network.up = nowhere;
        bad.network.up_count = 1;
        assert_int_equal(helper_client_ask(client, &bad, on_answer, &a), 0);
        wait_for(event, &a, 2);
        assert_int_equal(a.result, -ENODEV);
        assert_string_equal(a.error.text, "there is no interface nowhere0");
        assert_int_equal(waitpid(-1, NULL, WNOHANG), 0);
        helper_client_free(client);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1); /* it has ended, and was waited for */
        assert_int_equal(errno, ECHILD);
        sd_event_unref(event);
}

static void test_no_program(void **state)
{
        (void)state;
        struct helper_client *client = NULL;
        sd_event *event = an_event();
        struct heard a = {0};
        struct error e;

        assert_int_equal(helper_client_new(event, NULL, "/nonexistent/helper", NULL, &client, &e), -ENOENT);
        assert_non_null(strstr(e.text, "/nonexistent/helper"));
        /* It starts, and ends at once. */
        assert_int_equal(helper_client_new(event, NULL, "/bin/false", NULL, &client, &e), 0);
        ask(client, &a);
        wait_for(event, &a, 1);
        assert_int_equal(a.result, -EPIPE);
        ask(client, &a);
        wait_for(event, &a, 2);
        assert_int_equal(a.result, -EPIPE);
        assert_non_null(strstr(a.error.text, "starts again with the daemon"));
        helper_client_free(client);
        assert_int_equal(waitpid(-1, NULL, WNOHANG), -1);
        sd_event_unref(event);
}

/* The daemon is killed: the helper ends. */
static void test_daemon_killed(void **state)
{
        (void)state;
        int alive[2];
        char byte;
        pid_t daemon;

        assert_int_equal(pipe(alive), 0);
        daemon = fork();
        assert_true(daemon >= 0);
        if (daemon == 0) {
                struct helper_client *client;
                sd_event *event = an_event();
                struct heard a = {0};
                struct error e;

                /* The helper has it as its standard output: it is closed when both have gone. */
                dup2(alive[1], STDOUT_FILENO);
                close(alive[0]);
                close(alive[1]);
                if (helper_client_new(event, NULL, HELPER_PROGRAM, NULL, &client, &e) < 0)
                        _exit(1);
                ask(client, &a);
                wait_for(event, &a, 1);
                assert_int_equal(write(STDOUT_FILENO, "", 1), 1);
                pause();
        }
        close(alive[1]);
        assert_int_equal(read(alive[0], &byte, 1), 1);
        kill(daemon, SIGKILL);
        assert_int_equal(waitpid(daemon, NULL, 0), daemon);
        assert_int_equal(poll(&(struct pollfd){.fd = alive[0], .events = POLLIN}, 1, 5000), 1);
        assert_int_equal(read(alive[0], &byte, 1), 0);
        close(alive[0]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_in_order),
                cmocka_unit_test(test_epipe),
                cmocka_unit_test(test_nobody_there),
                cmocka_unit_test(test_bad_answers),
                cmocka_unit_test(test_odd_answers),
                cmocka_unit_test(test_freed_within),
                cmocka_unit_test(test_full_queue),
                cmocka_unit_test(test_timeout),
                cmocka_unit_test(test_child),
                cmocka_unit_test(test_no_program),
                cmocka_unit_test(test_daemon_killed),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
