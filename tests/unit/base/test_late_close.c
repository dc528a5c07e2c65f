#include "base/late_close.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <fcntl.h>

#include <poll.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

static bool is_open(int fd)
{
        return fcntl(fd, F_GETFD) >= 0;
}

static void test_at_once_unless_enabled(void **state)
{
        int ends[2];

        (void)state;
        assert_int_equal(pipe(ends), 0);
        late_close(ends[0]);
        late_close(ends[1]);
        assert_false(is_open(ends[0]));
        assert_false(is_open(ends[1]));
        late_close_finish();
}

/* In a child, since it is about the end of a process: `kept` stays open beyond it, `other` does not. */
static void run_to_the_end(int kept, int other)
{
        late_close_enable();
        late_close(kept);
        if (!is_open(kept) || !is_open(other))
                _exit(1);
        late_close_finish();
        _exit(0);
}

static void test_kept_until_the_end_and_then_closed(void **state)
{
        int kept[2], other[2], status;
        struct pollfd fd;
        pid_t pid;
        char byte;

        (void)state;
        assert_int_equal(pipe(kept), 0);
        assert_int_equal(pipe(other), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0)
                run_to_the_end(kept[1], other[1]);
        close(kept[1]);
        close(other[1]);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        /* The end of the other pipe is seen as soon as the process is gone; that of the kept one soon after.
         */
        fd = (struct pollfd){.fd = other[0], .events = POLLIN};
        assert_int_equal(poll(&fd, 1, 5000), 1);
        assert_int_equal(read(other[0], &byte, 1), 0);
        fd.fd = kept[0];
        assert_int_equal(poll(&fd, 1, 5000), 1);
        assert_int_equal(read(kept[0], &byte, 1), 0);
        close(kept[0]);
        close(other[0]);
}

static void test_more_than_it_keeps(void **state)
{
        int ends[2], status;
        pid_t pid;

        (void)state;
        assert_int_equal(pipe(ends), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                int last = -1;

                late_close_enable();
                for (int i = 0; i < 100; i++)
                        late_close(last = dup(ends[0]));
                if (is_open(last))
                        _exit(1); /* beyond its room it closes at once */
                late_close_finish();
                _exit(0);
        }
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_int_equal(status, 0);
        close(ends[0]);
        close(ends[1]);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
                cmocka_unit_test(test_at_once_unless_enabled),
                cmocka_unit_test(test_kept_until_the_end_and_then_closed),
                cmocka_unit_test(test_more_than_it_keeps),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
