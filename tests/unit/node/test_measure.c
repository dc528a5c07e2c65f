/* The hand tools' runner, on the loopback interface of a namespace of its own. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "node/measure.h"

#include "../scaffold.h"
#include "base/cleanup.h"

#include <errno.h>
#include <net/if.h>
#include <string.h>
#include <sys/eventfd.h>

static int enter_namespace(void **state)
{
        (void)state;
        scaffold_enter_namespace();
        return 0;
}

static struct measure *start(double budget_ms, int stop_fd)
{
        struct measure *m = NULL;
        struct error e = {0};

        assert_int_equal(
                measure_new(&(struct measure_options){.budget_ms = budget_ms, .stop_fd = stop_fd}, &m, &e),
                0);
        return m;
}

static void add_tcp(struct measure *m, const char *target)
{
        struct probe_spec spec = {.kind = MEASUREMENT_TCP};

        assert_int_equal(endpoint_parse(target, &spec.target), 0);
        measure_add(m, &spec);
}

/* Listens with a full backlog, so that further SYNs are met by silence. */
static int listen_full(struct endpoint *ret)
{
        struct sockaddr_in sa = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof sa;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_int_equal(bind(fd, (struct sockaddr *)&sa, sizeof sa), 0);
        assert_int_equal(listen(fd, 0), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&sa, &length), 0);
        for (int i = 0; i < 3; i++) {
                int client = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

                if (connect(client, (struct sockaddr *)&sa, sizeof sa) < 0)
                        assert_int_equal(errno, EINPROGRESS);
        }
        endpoint_from_sockaddr((struct sockaddr *)&sa, ret);
        return fd;
}

static void test_runs_what_was_queued(void **state)
{
        struct measure *m = start(5000, -1);

        (void)state;
        add_tcp(m, "127.0.0.1:1");
        add_tcp(m, "127.0.0.2:1");
        assert_int_equal(measure_run(m, NULL, NULL), 0);
        assert_int_equal(measure_list(m)->count, 2);
        for (size_t i = 0; i < 2; i++)
                assert_int_equal(measure_list(m)->items[i]->outcome, OUTCOME_RESET);
        add_tcp(m, "127.0.0.3:1");
        assert_int_equal(measure_run(m, NULL, NULL), 0);
        assert_int_equal(measure_list(m)->count, 3);
        assert_false(measure_is_over(m));
        measure_free(m);
}

static void test_budget_leaves_the_rest_untested(void **state)
{
        struct measure *m = start(200, -1);
        struct endpoint silent;
        int fd = listen_full(&silent);

        (void)state;
        measure_add(m, &(struct probe_spec){.kind = MEASUREMENT_TCP, .target = silent});
        assert_int_equal(measure_run(m, NULL, NULL), 0);
        assert_true(measure_is_over(m));
        assert_false(measure_was_stopped(m));
        assert_true(measure_elapsed_ms(m) >= 190 && measure_elapsed_ms(m) < 900);
        assert_int_equal(measure_list(m)->items[0]->outcome, OUTCOME_NOT_TESTED);
        assert_string_equal(measure_list(m)->items[0]->reason, "the time was up");
        add_tcp(m, "127.0.0.1:1");
        assert_int_equal(measure_run(m, NULL, NULL), 0);
        assert_int_equal(measure_list(m)->items[1]->outcome, OUTCOME_NOT_TESTED);
        measure_free(m);
        close(fd);
}

static void test_stop_ends_it_at_once(void **state)
{
        _cleanup_close_ int stop = eventfd(1, EFD_CLOEXEC | EFD_NONBLOCK);
        struct measure *m = start(5000, stop);
        struct endpoint silent;
        int fd = listen_full(&silent);

        (void)state;
        measure_add(m, &(struct probe_spec){.kind = MEASUREMENT_TCP, .target = silent});
        assert_int_equal(measure_run(m, NULL, NULL), 0);
        assert_true(measure_was_stopped(m));
        assert_true(measure_elapsed_ms(m) < 500);
        assert_string_equal(measure_list(m)->items[0]->reason, "interrupted");
        measure_wait(m, 5000);
        assert_true(measure_elapsed_ms(m) < 1000);
        measure_free(m);
        close(fd);
}

static bool has_one(const struct measurement_list *l, void *userdata)
{
        (void)userdata;
        return l->count > 0;
}

static void test_enough_is_enough(void **state)
{
        struct measure *m = start(5000, -1);
        struct endpoint silent;
        int fd = listen_full(&silent);

        (void)state;
        measure_add(m, &(struct probe_spec){.kind = MEASUREMENT_TCP, .target = silent});
        add_tcp(m, "127.0.0.1:1");
        assert_int_equal(measure_run(m, has_one, NULL), 0);
        assert_int_equal(measure_list(m)->count, 2);
        assert_int_equal(measure_list(m)->items[0]->outcome, OUTCOME_RESET);
        assert_int_equal(measure_list(m)->items[1]->outcome, OUTCOME_NOT_TESTED);
        assert_false(measure_is_over(m));
        measure_free(m);
        close(fd);
}

/* What was told, call by call: the last byte of each target's address, and when. */
struct told {
        struct measure *measure;
        char text[64];
        double first_ms, last_ms;
        unsigned follow; /* so many more are asked for by the callback */
};

static void on_results(const struct measurement *const *results, size_t count, void *userdata)
{
        struct told *t = userdata;
        size_t length = strlen(t->text);

        t->last_ms = measure_elapsed_ms(t->measure);
        if (length == 0)
                t->first_ms = t->last_ms;
        for (size_t i = 0; i < count; i++)
                length += (size_t)snprintf(t->text + length, sizeof t->text - length, "%d%s",
                        results[i]->spec.target.address.bytes[3], i + 1 == count ? ";" : ",");
        if (t->follow > 0) {
                t->follow--;
                add_tcp(t->measure, "127.0.0.9:1");
        }
}

static void test_told_in_the_order_asked(void **state)
{
        struct told t = {.measure = start(5000, -1), .follow = 1};
        char alone[] = "127.0.0.0:1";

        (void)state;
        measure_tell(t.measure, on_results, &t);
        for (alone[8] = '2'; alone[8] < '7'; alone[8]++)
                add_tcp(t.measure, alone);
        assert_int_equal(measure_run(t.measure, NULL, NULL), 0);
        for (char *c = t.text; *c; c++)
                *c = *c == ';' ? ',' : *c; /* how many came at once is not said */
        assert_string_equal(t.text, "2,3,4,5,6,9,");
        measure_tell(t.measure, NULL, NULL);
        add_tcp(t.measure, alone);
        assert_int_equal(measure_run(t.measure, NULL, NULL), 0);
        assert_string_equal(t.text, "2,3,4,5,6,9,");
        measure_free(t.measure);
}

static void test_silence_holds_nobody_up_for_long(void **state)
{
        struct told t = {.measure = start(700, -1)};
        struct endpoint silent;
        int fd = listen_full(&silent);

        (void)state;
        measure_tell(t.measure, on_results, &t);
        measure_add(t.measure, &(struct probe_spec){.kind = MEASUREMENT_TCP, .target = silent});
        add_tcp(t.measure, "127.0.0.2:1");
        add_tcp(t.measure, "127.0.0.3:1");
        assert_int_equal(measure_run(t.measure, NULL, NULL), 0);
        assert_string_equal(t.text, "2,3;1;");
        assert_true(t.first_ms >= 90 && t.last_ms - t.first_ms > 200);
        measure_free(t.measure);
        close(fd);
}

static void test_enough_tells_the_rest(void **state)
{
        struct told t = {.measure = start(5000, -1)};
        struct endpoint silent;
        int fd = listen_full(&silent);

        (void)state;
        measure_tell(t.measure, on_results, &t);
        measure_add(t.measure, &(struct probe_spec){.kind = MEASUREMENT_TCP, .target = silent});
        add_tcp(t.measure, "127.0.0.2:1");
        assert_int_equal(measure_run(t.measure, has_one, NULL), 0);
        assert_string_equal(t.text, "1,2;");
        measure_free(t.measure);
        close(fd);
}

static void test_missing_interfaces(void **state)
{
        struct measure_options o = {.budget_ms = 1000, .stop_fd = -1, .device = "nosuch0"};
        struct measure *m = NULL;
        struct error e = {0};
        struct inet_addr a = {0};
        char name[IFNAMSIZ] = "kept";

        (void)state;
        assert_int_equal(measure_new(&o, &m, &e), -ENODEV);
        assert_null(m);
        assert_non_null(strstr(e.text, "nosuch0"));
        assert_int_equal(measure_interface_address("nosuch0", AF_INET, &a), -ENODEV);
        assert_int_equal(measure_default_wan(name, &a), -ENETUNREACH);
        assert_string_equal(name, "kept");
        assert_false(inet_addr_is_set(&a));
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_runs_what_was_queued),
                cmocka_unit_test(test_budget_leaves_the_rest_untested),
                cmocka_unit_test(test_stop_ends_it_at_once),
                cmocka_unit_test(test_enough_is_enough),
                cmocka_unit_test(test_told_in_the_order_asked),
                cmocka_unit_test(test_silence_holds_nobody_up_for_long),
                cmocka_unit_test(test_enough_tells_the_rest),
                cmocka_unit_test(test_missing_interfaces),
        };

        return cmocka_run_group_tests(tests, enter_namespace, NULL);
}
