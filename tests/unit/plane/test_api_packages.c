/* The repository by the API, with the real dpkg-deb, reprepro and gpg. */
#include "api_world.h"

#include "base/alloc.h"
#include "base/file.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define DEB         "application/vnd.debian.binary-package"
#define DEB_MAXIMUM ((size_t)1 << 20)
#define PACKAGES    "/api/v1/packages"

static int setup(void **state)
{
        sigset_t child;

        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        sigprocmask(SIG_BLOCK, &child, NULL);
        world_keeps_packages = true;
        return world_setup(state);
}

static void build(const char *folder, const char *file)
{
        pid_t pid = fork();
        int status = -1;

        if (pid == 0) {
                if (!freopen("/dev/null", "w", stdout))
                        _exit(1);
                execlp("dpkg-deb", "dpkg-deb", "-b", folder, file, NULL);
                _exit(127);
        }
        waitpid(pid, &status, 0);
        assert_int_equal(status, 0);
}

/* A package with one version of one file; the caller's. */
static char *make_deb(struct world *w, const char *version, const char *content, size_t *ret_length)
{
        _cleanup_free_ char *folder = path_join(w->folder, "deb"), *debian = path_join(folder, "DEBIAN"),
                            *control = path_join(debian, "control"), *file = path_join(folder, "file"),
                            *deb = path_join(w->folder, "a.deb"), *data = NULL,
                            *text = xasprintf("Package: hello\nVersion: %s\nArchitecture: all\nMaintainer: A "
                                              "<a@grid.example>\nDescription: for a test\n",
                                    version);
        struct error e;

        mkdir(folder, 0755);
        mkdir(debian, 0755);
        assert_int_equal(file_save(control, text, strlen(text), 0644, &e), 0);
        assert_int_equal(file_save(file, content, strlen(content), 0644, &e), 0);
        build(folder, deb);
        assert_int_equal(file_read(deb, DEB_MAXIMUM, &data, ret_length, &e), 0);
        return TAKE_PTR(data);
}

static struct answer send_deb(
        struct world *w, const char *token, const char *query, const char *version, const char *content)
{
        _cleanup_free_ char *path = xasprintf(PACKAGES "%s", query);
        size_t length;
        _cleanup_free_ char *deb = make_deb(w, version, content, &length);

        return world_ask(
                w, ASK("POST", path, .token = token, .body = deb, .body_length = length, .type = DEB));
}

static size_t count_of(json_t *answer)
{
        size_t count = json_array_size(json_object_get(answer, "items"));

        json_decref(answer);
        return count;
}

static void test_life(void **state)
{
        struct world *w = *state;
        struct answer a;
        json_t *j;

        assert_problem(
                world_ask(w, ASK("GET", PACKAGES "/key", .token = w->viewer)), 503, "repository.starting");
        a = send_deb(w, w->operator, "?channel=testing", "1", "a");
        assert_int_equal(a.status, 201);
        j = json_array_get(json_object_get(a.json, "items"), 0);
        assert_string_equal(text_of(j, "package"), "hello");
        assert_string_equal(text_of(j, "added_by"), "token:o");
        assert_string_equal(text_of(j, "channel"), "testing");
        answer_done(&a);
        assert_problem(send_deb(w, w->operator, "", "1", "b"), 409, "package.exists");
        assert_int_equal(count_of(world_get(w, 200,
                                 ASK("POST", PACKAGES "/promote", .token = w->operator,
                                         .body = "{\"from\":\"testing\",\"to\":\"stable\"}"))),
                1);
        assert_int_equal(count_of(world_get(w, 200, ASK("GET", PACKAGES, .token = w->viewer))), 2);
        assert_int_equal(count_of(world_get(w, 200,
                                 ASK("GET", PACKAGES "?channel=stable&package=hello", .token = w->viewer))),
                1);
        /* Nothing crosses. */
        assert_int_equal(count_of(world_get(w, 200, ASK("GET", PACKAGES, .token = w->stranger))), 0);
        assert_problem(world_ask(w, ASK("DELETE", PACKAGES "/stable/hello", .token = w->stranger)), 404,
                "package.unknown");
        assert_int_equal(count_of(world_get(w, 200,
                                 ASK("DELETE", PACKAGES "/stable/hello?version=1&architecture=all",
                                         .token = w->operator))),
                1);
        json_decref(world_get(w, 200, ASK("POST", PACKAGES "/key/rotate", .token = w->admin)));
        j = world_get(w, 200, ASK("GET", PACKAGES "/key", .token = w->viewer));
        assert_int_equal(json_array_size(json_object_get(j, "keys")), 2);
        json_decref(j);
        j = world_get(w, 200, ASK("GET", "/api/v1/audit", .token = w->admin));
        assert_true(count_of(j) >= 4);
}

static void test_refused(void **state)
{
        struct world *w = *state;

        assert_problem(send_deb(w, NULL, "", "1", "a"), 401, "session.missing");
        assert_problem(send_deb(w, w->viewer, "", "1", "a"), 403, "role.insufficient");
        assert_problem(send_deb(w, w->operator, "?channel=unstable", "1", "a"), 404, "channel.unknown");
        assert_problem(send_deb(w, w->operator, "?chanel=stable", "1", "a"), 400, "query.unknown");
        assert_problem(
                world_ask(w, ASK("POST", PACKAGES, .token = w->operator, .body = "{}")), 415, "body.type");
        assert_problem(
                world_ask(w, ASK("POST", PACKAGES, .token = w->operator, .body = "no package", .type = DEB)),
                400, "package.malformed");
        assert_problem(world_ask(w, ASK("POST", PACKAGES, .token = w->operator, .body = "", .type = DEB)),
                400, "body.missing");
        assert_problem(world_ask(w, ASK("POST", PACKAGES "/promote", .token = w->operator,
                                            .body = "{\"from\":\"stable\",\"to\":\"security\"}")),
                400, "channel.same");
        assert_problem(
                world_ask(w, ASK("POST", PACKAGES "/promote", .token = w->operator,
                                     .body = "{\"from\":\"testing\",\"to\":\"stable\",\"package\":\"a) \"}")),
                400, "package.name");
        assert_problem(world_ask(w, ASK("DELETE", PACKAGES "/stable/a%29", .token = w->operator)), 400,
                "package.name");
        assert_problem(world_ask(w, ASK("POST", PACKAGES "/key/rotate", .token = w->operator)), 403,
                "role.insufficient");
}

/* Who still waits when the plane stops is answered, and nothing is left of it. */
static void test_stop(void **state)
{
        struct world *w = *state;
        size_t length;
        _cleanup_free_ char *deb = make_deb(w, "1", "a", &length),
                            *head = xasprintf("POST " PACKAGES " HTTP/1.1\r\nHost: a\r\nContent-Type: " DEB
                                              "\r\nAuthorization: Bearer %s\r\nContent-Length: %zu\r\n\r\n",
                                    w->operator, length),
                            *said = NULL;
        int fd = raw_open(w, false);

        raw_send(w, fd, head, strlen(head));
        raw_send(w, fd, deb, length);
        world_run(w, 20);
        packages_stop(w->packages);
        said = raw_read(w, fd, "stopping", 3000);
        assert_non_null(said);
        assert_non_null(strstr(said, "503"));
        close(fd);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_life, setup, world_teardown),
                cmocka_unit_test_setup_teardown(test_refused, setup, world_teardown),
                cmocka_unit_test_setup_teardown(test_stop, setup, world_teardown),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
