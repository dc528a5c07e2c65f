#include "net/budget.h"

#include "base/cleanup.h"

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
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define RATE      1000000.0 /* bytes per second */
#define START_MS  1e6
#define PROCESSES 6

static char path[64];

static int make_path(void **state)
{
        (void)state;
        strcpy(path, "/tmp/test_budget-XXXXXX");
        int fd = mkstemp(path);
        if (fd < 0)
                return -1;
        close(fd);
        return unlink(path);
}

static int remove_path(void **state)
{
        (void)state;
        unlink(path);
        return 0;
}

static struct budget *open_with(const char *plan)
{
        struct budget_plan p;
        struct budget *b;
        struct error e;

        assert_int_equal(budget_open(path, &b, &e), 0);
        if (plan) {
                assert_int_equal(budget_plan_parse(plan, &p, &e), 0);
                budget_set_plan(b, &p);
        }
        return b;
}

/* What a class gets that asks all the time, from one moment to another. */
static double take_for(struct budget *b, enum budget_class c, double from_ms, double for_ms)
{
        double total = 0, wait_ms;

        for (double now_ms = from_ms; now_ms<from_ms + for_ms; now_ms += wait_ms> 1 ? wait_ms : 1)
                total += (double)budget_take(b, c, 65536, now_ms, &wait_ms);
        return total;
}

static void test_limit_is_kept(void **state)
{
        struct budget *b = open_with("8Mbit/s");

        (void)state;
        take_for(b, BUDGET_IMAGES, START_MS, 1000); /* the burst */
        for (int c = 0; c < BUDGET_CLASSES; c++) {
                double got = take_for(b, (enum budget_class)c, START_MS + 1000 + c * 20000.0, 20000);

                /* The reserve of those below is its own once. */
                if (got < 20 * RATE * 0.97 || got > 20 * RATE * 1.03)
                        fail_msg("%s: %.0f bytes in 20 s", budget_class_to_string((enum budget_class)c), got);
        }
        assert_int_equal(budget_limit(b), 1000000);
        budget_close(b);
}

static void test_without_limit(void **state)
{
        struct budget *b = open_with(NULL);
        double wait_ms = 7;

        (void)state;
        assert_int_equal(budget_take(b, BUDGET_IMAGES, 1 << 30, START_MS, &wait_ms), 1 << 30);
        assert_true(wait_ms == 0);
        assert_int_equal(budget_limit(b), 0);
        budget_give_back(b, 100);
        budget_close(b);
}

static void test_less_urgent_yields(void **state)
{
        struct budget *b = open_with("8Mbit/s");
        double got[BUDGET_CLASSES] = {0}, wait_ms;

        (void)state;
        for (double now_ms = START_MS; now_ms < START_MS + 10000; now_ms++) {
                got[BUDGET_IMAGES] += (double)budget_take(b, BUDGET_IMAGES, 65536, now_ms, &wait_ms);
                got[BUDGET_UPDATES] += (double)budget_take(b, BUDGET_UPDATES, 65536, now_ms, &wait_ms);
        }
        assert_true(got[BUDGET_UPDATES] > 0.93 * 10 * RATE);
        assert_true(got[BUDGET_IMAGES] < 0.05 * 10 * RATE);
        /* Whoever is urgent finds tokens at once, however hungry the others are. */
        assert_true(budget_take(b, BUDGET_CONTROL, 20000, START_MS + 10000, &wait_ms) == 20000);
        budget_close(b);
}

static void test_waiting_is_as_long_as_told(void **state)
{
        struct budget *b = open_with("8Mbit/s");
        double wait_ms, now_ms = START_MS;

        (void)state;
        take_for(b, BUDGET_CONTROL, START_MS, 1);
        while (budget_take(b, BUDGET_CONTROL, 65536, now_ms, &wait_ms) == 65536)
                ;
        assert_true(wait_ms >= 1 && wait_ms <= 1000);
        now_ms += wait_ms + 0.01;
        assert_true(budget_take(b, BUDGET_CONTROL, 65536, now_ms, &wait_ms) >= 1400);
        budget_close(b);
}

static void test_what_is_given_back(void **state)
{
        struct budget *b = open_with("8Mbit/s");
        double wait_ms;

        (void)state;
        while (budget_take(b, BUDGET_CONTROL, 65536, START_MS, &wait_ms) > 0)
                ;
        budget_give_back(b, 50000);
        size_t got = budget_take(b, BUDGET_CONTROL, 65536, START_MS, &wait_ms);
        assert_in_range(got, 49000, 52000);
        /* More than ever was taken: it is a full bucket and no more. */
        budget_give_back(b, (size_t)1 << 40);
        double burst = 0;
        for (size_t n; (n = budget_take(b, BUDGET_CONTROL, 65536, START_MS, &wait_ms)) > 0;)
                burst += (double)n;
        assert_true(burst <= 400001);
        budget_close(b);
}

/* Asks in real time until it is ended, and counts what it got. */
static _Noreturn void take_all_the_time(_Atomic uint64_t *got)
{
        struct budget *b = open_with(NULL);
        struct timespec t, pause = {.tv_nsec = 300000};
        double wait_ms;

        for (;;) {
                clock_gettime(CLOCK_BOOTTIME, &t);
                *got += budget_take(
                        b, BUDGET_UPDATES, 3000, (double)t.tv_sec * 1000 + (double)t.tv_nsec / 1e6, &wait_ms);
                nanosleep(&pause, NULL);
        }
}

static void test_processes_share_it_and_may_be_killed(void **state)
{
        struct budget *b = open_with("80Mbit/s"); /* 10 MB/s */
        _Atomic uint64_t *got = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
        struct timespec begin, end, pause = {.tv_nsec = 40000000};
        pid_t pids[PROCESSES];

        (void)state;
        clock_gettime(CLOCK_BOOTTIME, &begin);
        for (int i = 0; i < PROCESSES; i++)
                if ((pids[i] = fork()) == 0)
                        take_all_the_time(got);
        for (int round = 0; round < 40; round++) {
                int i = round % PROCESSES;

                nanosleep(&pause, NULL);
                kill(pids[i], SIGKILL);
                waitpid(pids[i], NULL, 0);
                if ((pids[i] = fork()) == 0)
                        take_all_the_time(got);
        }
        for (int i = 0; i < PROCESSES; i++) {
                kill(pids[i], SIGKILL);
                waitpid(pids[i], NULL, 0);
        }
        clock_gettime(CLOCK_BOOTTIME, &end);
        double passed_s = (double)(end.tv_sec - begin.tv_sec) + (double)(end.tv_nsec - begin.tv_nsec) / 1e9;
        double rate = (double)*got / passed_s;
        /* A burst of 0.4 s is on top; what the killed ones took and did not count is lost. */
        if (rate < 8.5e6 || rate > 10e6 * (1 + 0.42 / passed_s))
                fail_msg("%.2f MB/s in %.1f s", rate / 1e6, passed_s);
        munmap(got, 4096);
        budget_close(b);
}

static void write_file(const void *data, size_t length)
{
        FILE *f = fopen(path, "w");

        assert_non_null(f);
        assert_int_equal(fwrite(data, 1, length, f), length);
        fclose(f);
}

static void test_foreign_content(void **state)
{
        unsigned char noise[4096];
        struct budget *b;
        double wait_ms;

        (void)state;
        memset(noise, 0xff, sizeof(noise));
        write_file(noise, sizeof(noise));
        b = open_with("8Mbit/s");
        assert_true(budget_take(b, BUDGET_UPDATES, 1000, START_MS, &wait_ms) == 1000);
        assert_int_equal(budget_rate_seen(b), 0);
        budget_close(b);
        /* The rest of the content may be noise behind a right beginning: a debt that nobody makes is none. */
        FILE *f = fopen(path, "r+");
        fseek(f, 16, SEEK_SET);
        fwrite(noise, 1, 8, f);
        fclose(f);
        b = open_with(NULL);
        assert_true(budget_take(b, BUDGET_UPDATES, 1000, START_MS, &wait_ms) == 1000);
        budget_close(b);
        write_file("short", 5);
        b = open_with("8Mbit/s");
        assert_int_equal(budget_limit(b), 1000000);
        budget_close(b);
}

static void test_places_that_cannot_be(void **state)
{
        struct budget *b;
        struct error e;
        double wait_ms;

        (void)state;
        assert_int_equal(budget_open("/nowhere/at/all", &b, &e), 0);
        assert_true(budget_take(b, BUDGET_LOGS, 10, START_MS, &wait_ms) == 10);
        budget_close(b);
        assert_int_equal(budget_open(NULL, &b, &e), 0);
        budget_close(b);
        assert_int_equal(symlink("/etc/hostname", path), 0);
        assert_int_equal(budget_open(path, &b, &e), -ELOOP);
        assert_non_null(strstr(e.text, path));
        unlink(path);
        assert_int_equal(mkfifo(path, 0600), 0);
        assert_true(budget_open(path, &b, &e) < 0);
}

/* Who opens it a moment later does not lose the limit that another set. */
static void test_second_keeps_the_limit(void **state)
{
        struct budget *first = open_with("8Mbit/s"), *second = open_with(NULL);
        struct stat st;

        (void)state;
        assert_int_equal(budget_limit(second), 1000000);
        assert_int_equal(stat(path, &st), 0);
        assert_int_equal(st.st_mode & 0777, 0660);
        budget_close(first);
        budget_close(second);
}

static void test_what_was_moved(void **state)
{
        struct budget *b = open_with(NULL);
        double now_ms = START_MS;

        (void)state;
        for (int i = 0; i < 200; i++, now_ms += 50)
                budget_moved(b, 50000, now_ms);
        assert_in_range(budget_rate_seen(b), 900000, 1100000);
        /* A pause is no slow line. */
        now_ms += 3600000;
        for (int i = 0; i < 100; i++, now_ms += 50)
                budget_moved(b, 50000, now_ms);
        assert_in_range(budget_rate_seen(b), 900000, 1100000);
        /* Nor are small files, whatever the time they take. */
        for (int i = 0; i < 100; i++, now_ms += 400)
                budget_moved(b, 500, now_ms);
        assert_in_range(budget_rate_seen(b), 900000, 1100000);
        for (int i = 0; i < 100; i++, now_ms += 50) /* with a large one after them */
                budget_moved(b, 50000, now_ms);
        assert_in_range(budget_rate_seen(b), 900000, 1100000);
        budget_moved(b, 1, START_MS); /* a clock that went back */
        budget_close(b);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test_setup_teardown(test_limit_is_kept, make_path, remove_path),
                cmocka_unit_test_setup_teardown(test_without_limit, make_path, remove_path),
                cmocka_unit_test_setup_teardown(test_less_urgent_yields, make_path, remove_path),
                cmocka_unit_test_setup_teardown(test_waiting_is_as_long_as_told, make_path, remove_path),
                cmocka_unit_test_setup_teardown(test_what_is_given_back, make_path, remove_path),
                cmocka_unit_test_setup_teardown(
                        test_processes_share_it_and_may_be_killed, make_path, remove_path),
                cmocka_unit_test_setup_teardown(test_foreign_content, make_path, remove_path),
                cmocka_unit_test_setup_teardown(test_places_that_cannot_be, make_path, remove_path),
                cmocka_unit_test_setup_teardown(test_second_keeps_the_limit, make_path, remove_path),
                cmocka_unit_test_setup_teardown(test_what_was_moved, make_path, remove_path)};

        return cmocka_run_group_tests(tests, NULL, NULL);
}
