/* The resolver against real unbound in a network namespace of its own: two servers on loopback addresses. */
#include "net/resolver.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/paths.h"

#include "../scaffold.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <ftw.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIRST  "127.0.0.53"
#define SECOND "127.0.0.54"
#define DEAD   "127.0.0.99" /* nobody listens, and nothing refuses: its packets are dropped */

extern char **environ;
static char folder[64];
static sd_event *event;

/* ---- a server ---- */

static pid_t start_unbound(const char *address, const char *more)
{
        _cleanup_free_ char *conf = xasprintf("%s/%s.conf", folder, address);
        char *words[] = {(char *)"unbound", (char *)"-d", (char *)"-p", (char *)"-c", conf, NULL};
        FILE *f = fopen(conf, "w");
        pid_t pid;

        fprintf(f,
                "server:\n interface: %s\n access-control: 0.0.0.0/0 allow\n username: \"\"\n chroot: \"\"\n"
                " directory: %s\n pidfile: \"\"\n use-syslog: no\n logfile: %s/%s.log\n do-ip6: no\n"
                " do-not-query-localhost: no\n local-zone: grid.example. static\n"
                " local-data: \"short.grid.example. 1 IN A 192.0.2.1\"\n"
                " local-data: \"both.grid.example. 300 IN A 192.0.2.2\"\n"
                " local-data: \"both.grid.example. 300 IN AAAA 2001:db8::2\"\n",
                address, folder, folder, address);
        for (int i = 1; i <= 60; i++)
                fprintf(f, " local-data: \"many.grid.example. 300 IN A 198.51.100.%d\"\n", i);
        fputs(more, f);
        fclose(f);
        assert_int_equal(posix_spawnp(&pid, "unbound", NULL, NULL, words, environ), 0);
        return pid;
}

static void stop(pid_t pid)
{
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
}

static int run(const char *const *words)
{
        pid_t pid;
        int status;

        if (posix_spawnp(&pid, words[0], NULL, NULL, (char *const *)words, environ) != 0)
                return -1;
        waitpid(pid, &status, 0);
        return status;
}

/* ---- asking ---- */

struct answer {
        bool is_there;
        int result;
        size_t count;
        struct inet_addr list[RESOLVER_MAX_ADDRESSES];
        struct error error;
};

static void on_done(
        int result, const struct inet_addr *addresses, size_t count, const struct error *e, void *userdata)
{
        struct answer *a = userdata;

        a->is_there = true;
        a->result = result;
        a->count = count;
        if (count)
                memcpy(a->list, addresses, count * sizeof(*addresses));
        if (e)
                a->error = *e;
}

static struct answer ask(struct resolver *r, const char *host)
{
        struct answer a = {0};

        assert_int_equal(resolver_ask(r, host, on_done, &a), 0);
        assert_false(a.is_there);
        if (!scaffold_run_until(event, &a.is_there, 15000))
                fail_msg("%s: no answer at all", host);
        return a;
}

static void expect_address(const struct answer *a, size_t i, const char *address)
{
        char text[INET_ADDR_TEXT];

        assert_true(i < a->count);
        assert_string_equal(inet_addr_format(&a->list[i], text), address);
}

static struct resolver *make(const char *first, const char *second, const char *source, const char *device)
{
        struct inet_addr servers[2];
        struct resolver_options o = {.servers = servers,
                .server_count = second  ? 2
                                : first ? 1
                                        : 0,
                .device = device};
        struct resolver *r;
        struct error e;

        if (first)
                assert_int_equal(inet_addr_parse(first, &servers[0]), 0);
        if (second)
                assert_int_equal(inet_addr_parse(second, &servers[1]), 0);
        if (source)
                assert_int_equal(inet_addr_parse(source, &o.source), 0);
        if (resolver_new(event, &o, &r, &e) < 0)
                fail_msg("%s", e.text);
        return r;
}

static void await(const char *server)
{
        for (int i = 0; i < 100; i++) {
                struct resolver *r = make(server, NULL, NULL, NULL);
                struct answer a = ask(r, "both.grid.example");

                resolver_free(r);
                if (a.result == 0)
                        return;
                scaffold_run_for(event, 50);
        }
        fail_msg("unbound at %s does not answer", server);
}

static double now_ms(void)
{
        struct timespec t;

        clock_gettime(CLOCK_MONOTONIC, &t);
        return (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6;
}

/* ---- */

static void test_names(void **state)
{
        pid_t pid = start_unbound(FIRST, "");
        struct resolver *r;
        struct answer a;

        (void)state;
        await(FIRST);
        r = make(FIRST, NULL, NULL, NULL);
        a = ask(r, "both.grid.example");
        assert_int_equal(a.result, 0);
        assert_int_equal(a.count, 2);
        expect_address(&a, 0, "192.0.2.2");
        expect_address(&a, 1, "2001:db8::2");
        /* 60 addresses do not fit a datagram of 512 bytes: TC, then TCP. */
        a = ask(r, "many.grid.example");
        assert_int_equal(a.count, 60);
        a = ask(r, "none.grid.example");
        assert_int_equal(a.result, -ENOENT);
        assert_non_null(strstr(a.error.text, "none.grid.example"));
        assert_non_null(strstr(a.error.text, FIRST));
        a = ask(r, "192.0.2.77");
        expect_address(&a, 0, "192.0.2.77");
        a = ask(r, "2001:db8::77");
        expect_address(&a, 0, "2001:db8::77");
        assert_int_equal(resolver_ask(r, "no name", on_done, &a), -EINVAL);
        resolver_free(r);
        stop(pid);
}

static void test_servfail_names_the_servers(void **state)
{
        /* It forwards to where nobody is: SERVFAIL. */
        pid_t pid =
                start_unbound(FIRST, "forward-zone:\n name: \"other.example.\"\n forward-addr: 127.0.0.98\n");
        struct resolver *r;
        struct answer a;

        (void)state;
        await(FIRST);
        r = make(FIRST, NULL, NULL, NULL);
        a = ask(r, "x.other.example");
        assert_true(a.result == -EREMOTEIO || a.result == -EHOSTUNREACH);
        assert_non_null(strstr(a.error.text, FIRST));
        resolver_free(r);
        stop(pid);
}

static void test_first_server_is_dead(void **state)
{
        pid_t pid = start_unbound(SECOND, "");
        struct resolver *r;
        struct answer a;
        double begun_ms;

        (void)state;
        await(SECOND);
        r = make(DEAD, SECOND, NULL, NULL);
        begun_ms = now_ms();
        a = ask(r, "both.grid.example");
        assert_int_equal(a.result, 0);
        assert_true(now_ms() - begun_ms < 2500);
        begun_ms = now_ms();
        a = ask(r, "both.grid.example"); /* kept */
        assert_true(a.result == 0 && now_ms() - begun_ms < 50);
        resolver_free(r);
        stop(pid);
}

static void test_old_answers_when_servers_die(void **state)
{
        pid_t pid = start_unbound(FIRST, "");
        struct inet_addr kept[4];
        struct resolver *r;
        struct answer a;

        (void)state;
        await(FIRST);
        r = make(FIRST, NULL, NULL, NULL);
        assert_int_equal(resolver_kept(r, "short.grid.example", kept, 4), 0);
        assert_int_equal(ask(r, "short.grid.example").result, 0);
        stop(pid);
        resolver_refresh(r); /* as if its time were over */
        assert_int_equal(resolver_kept(r, "short.grid.example", kept, 4), 1);
        a = ask(r, "short.grid.example");
        assert_int_equal(a.result, 0);
        expect_address(&a, 0, "192.0.2.1");
        a = ask(r, "both.grid.example"); /* was never known */
        assert_int_equal(a.result, -EHOSTUNREACH);
        resolver_free(r);
}

static void test_no_server(void **state)
{
        struct resolver *r = make(NULL, NULL, NULL, NULL);
        struct answer a = ask(r, "both.grid.example");

        (void)state;
        assert_true(a.result < 0);
        assert_non_null(strstr(a.error.text, "none is configured"));
        resolver_free(r);
}

/* The server answers 127.0.0.7 alone: what comes from another address is refused. */
static void test_source(void **state)
{
        pid_t pid = start_unbound(
                FIRST, " access-control: 127.0.0.0/8 refuse\n access-control: 127.0.0.7/32 allow\n");
        struct resolver *bound, *other;

        (void)state;
        for (int i = 0; i < 100; i++) {
                bound = make(FIRST, NULL, "127.0.0.7", "lo");
                struct answer a = ask(bound, "both.grid.example");

                resolver_free(bound);
                if (a.result == 0)
                        break;
                scaffold_run_for(event, 50);
        }
        bound = make(FIRST, NULL, "127.0.0.7", "lo");
        assert_int_equal(ask(bound, "both.grid.example").result, 0);
        other = make(FIRST, NULL, "127.0.0.8", NULL);
        assert_true(ask(other, "both.grid.example").result < 0);
        resolver_free(bound);
        resolver_free(other);
        /* Of a device that leads elsewhere, nothing comes back. */
        other = make(FIRST, NULL, NULL, "elsewhere0");
        assert_true(ask(other, "both.grid.example").result < 0);
        resolver_free(other);
        stop(pid);
}

static void on_never(
        int result, const struct inet_addr *addresses, size_t count, const struct error *e, void *userdata)
{
        (void)result, (void)addresses, (void)count, (void)e;
        *(bool *)userdata = true;
}

static void test_forgotten_and_freed(void **state)
{
        unsigned before = scaffold_count_descriptors();
        struct resolver *r = make(DEAD, NULL, NULL, NULL);
        bool was_called = false, other = false;

        (void)state;
        assert_int_equal(resolver_ask(r, "x.grid.example", on_never, &was_called), 0);
        assert_int_equal(resolver_ask(r, "x.grid.example", on_never, &other), 0);
        scaffold_run_for(event, 100);
        resolver_forget(r, &was_called);
        assert_true(scaffold_run_until(event, &other, 15000));
        assert_false(was_called);
        assert_int_equal(resolver_ask(r, "y.grid.example", on_never, &was_called), 0);
        scaffold_run_for(event, 100);
        resolver_free(r);
        scaffold_run_for(event, 100);
        assert_false(was_called);
        assert_int_equal(scaffold_count_descriptors(), before);
}

static int remove_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
        (void)st, (void)type, (void)ftw;
        return remove(path);
}

static int set_up(void **state)
{
        const char *const drop[] = {"nft",
                "table ip t { chain o { type filter hook input priority 0; ip daddr " DEAD " drop; }; }",
                NULL};
        const char *const link[] = {
                "ip", "link", "add", "elsewhere0", "type", "veth", "peer", "name", "elsewhere1", NULL};

        (void)state;
        scaffold_enter_namespace();
        strcpy(folder, "/tmp/test_resolver-XXXXXX");
        return mkdtemp(folder) && sd_event_new(&event) >= 0 && run(drop) == 0 && run(link) == 0 ? 0 : -1;
}

static int tear_down(void **state)
{
        (void)state;
        sd_event_unref(event);
        nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
        return 0;
}

int main(void)
{
        const struct CMUnitTest tests[] = {cmocka_unit_test(test_names),
                cmocka_unit_test(test_servfail_names_the_servers),
                cmocka_unit_test(test_first_server_is_dead),
                cmocka_unit_test(test_old_answers_when_servers_die), cmocka_unit_test(test_no_server),
                cmocka_unit_test(test_source), cmocka_unit_test(test_forgotten_and_freed)};

        return cmocka_run_group_tests(tests, set_up, tear_down);
}
