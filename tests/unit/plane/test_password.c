#include "plane/password.h"

#include "base/cleanup.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

struct fixture {
        sd_event *event;
        struct passwords *passwords;
        char hash[256];
        int calls, right;
};

static int setup(void **state)
{
        static struct fixture f;

        memset(&f, 0, sizeof f);
        assert_true(sd_event_new(&f.event) >= 0);
        assert_int_equal(passwords_new(f.event, &f.passwords), 0);
        *state = &f;
        return 0;
}

static int teardown(void **state)
{
        struct fixture *f = *state;

        assert_null(passwords_free(f->passwords));
        sd_event_unref(f->event);
        return 0;
}

static void on_hash(const char *hash, void *userdata)
{
        struct fixture *f = userdata;

        assert_non_null(hash);
        snprintf(f->hash, sizeof f->hash, "%s", hash);
        f->calls++;
}

static void on_verified(bool right, void *userdata)
{
        struct fixture *f = userdata;

        f->right += right;
        f->calls++;
}

static void run_until(struct fixture *f, int calls)
{
        while (f->calls < calls)
                assert_true(sd_event_run(f->event, 10 * 1000000) > 0);
}

static const char good[] = "correct horse battery";

static void test_right_and_wrong(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(passwords_hash(f->passwords, good, on_hash, f), 0);
        assert_int_equal(f->calls, 0); /* from the loop only */
        run_until(f, 1);
        assert_memory_equal(f->hash, "$argon2id$v=19$m=65536,", 23);
        assert_true(strlen(f->hash) < 128);
        assert_null(strstr(f->hash, good));
        assert_int_equal(passwords_verify(f->passwords, good, f->hash, on_verified, f), 0);
        run_until(f, 2);
        assert_int_equal(f->right, 1);
        assert_int_equal(passwords_verify(f->passwords, "correct horse batterz", f->hash, on_verified, f), 0);
        assert_int_equal(passwords_verify(f->passwords, "", f->hash, on_verified, f), 0);
        assert_int_equal(passwords_verify(f->passwords, good, NULL, on_verified, f), 0);
        assert_int_equal(passwords_verify(f->passwords, good, "", on_verified, f), 0);
        assert_int_equal(passwords_verify(f->passwords, good, "$argon2id$nonsense", on_verified, f), 0);
        run_until(f, 7);
        assert_int_equal(f->right, 1);
}

/* The same password has another hash each time. */
static void test_salt(void **state)
{
        struct fixture *f = *state;
        char first[256];

        assert_int_equal(passwords_hash(f->passwords, good, on_hash, f), 0);
        run_until(f, 1);
        memcpy(first, f->hash, sizeof first);
        assert_int_equal(passwords_hash(f->passwords, good, on_hash, f), 0);
        run_until(f, 2);
        assert_string_not_equal(first, f->hash);
}

static double verify_ms(struct fixture *f, const char *password, const char *hash)
{
        struct timespec a, b;
        int calls = f->calls;

        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &a);
        assert_int_equal(passwords_verify(f->passwords, password, hash, on_verified, f), 0);
        run_until(f, calls + 1);
        clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &b);
        return (double)(b.tv_sec - a.tv_sec) * 1e3 + (double)(b.tv_nsec - a.tv_nsec) / 1e6;
}

/* Who does not exist takes about as long: in time of this process, since the machine may be busy. */
static void test_unknown_user_takes_as_long(void **state)
{
        struct fixture *f = *state;
        char huge[2000];
        double known = 1e9, unknown = 1e9, long_one = 1e9, ms;

        memset(huge, 'x', sizeof huge - 1);
        huge[sizeof huge - 1] = 0;
        assert_int_equal(passwords_hash(f->passwords, good, on_hash, f), 0);
        run_until(f, 1);
        for (int i = 0; i < 4; i++) {
                ms = verify_ms(f, "wrong password", f->hash);
                known = ms < known ? ms : known;
                ms = verify_ms(f, "wrong password", NULL);
                unknown = ms < unknown ? ms : unknown;
                ms = verify_ms(f, huge, f->hash);
                long_one = ms < long_one ? ms : long_one;
        }
        assert_int_equal(f->right, 0);
        print_message("known %.1f ms, unknown %.1f ms, too long %.1f ms\n", known, unknown, long_one);
        assert_true(unknown > known / 2 && unknown < known * 2);
        assert_true(long_one > known / 2 && long_one < known * 2);
}

static void test_acceptable(void **state)
{
        struct fixture *f = *state;
        struct error e = {0};
        char text[1026];

        assert_int_equal(password_is_acceptable("12345678901", &e), -EINVAL);
        assert_string_equal(e.code, "password.short");
        assert_null(strstr(e.text, "12345678901"));
        assert_int_equal(password_is_acceptable("123456789012", &e), 0);
        memset(text, 'x', 1025);
        text[1025] = 0;
        assert_int_equal(password_is_acceptable(text, &e), -EINVAL);
        assert_string_equal(e.code, "password.long");
        assert_int_equal(password_is_acceptable(text + 1, &e), 0);
        assert_int_equal(passwords_hash(f->passwords, "short", on_hash, f), -EINVAL);
}

static void test_delay(void **state)
{
        static const struct {
                int64_t failures, delay_ms;
        } wanted[] = {{-1, 0}, {0, 0}, {4, 0}, {5, 1000}, {6, 2000}, {7, 4000}, {14, 512000}, {15, 900000},
                {16, 900000}, {INT64_MAX, 900000}};

        (void)state;
        for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++)
                assert_int_equal(password_delay_ms(wanted[i].failures), wanted[i].delay_ms);
}

/* 64 wait at most; what waits when it ends is dropped, and its callback never called. */
static void test_queue(void **state)
{
        struct fixture *f = *state;

        for (int i = 0; i < 64; i++)
                assert_int_equal(passwords_verify(f->passwords, good, NULL, on_verified, f), 0);
        assert_int_equal(passwords_verify(f->passwords, good, NULL, on_verified, f), -EAGAIN);
        assert_int_equal(passwords_hash(f->passwords, good, on_hash, f), -EAGAIN);
        run_until(f, 2);
        assert_int_equal(passwords_verify(f->passwords, good, NULL, on_verified, f), 0);
        f->passwords = passwords_free(f->passwords);
        f->calls = 0;
        assert_int_equal(sd_event_run(f->event, 50000), 0);
        assert_int_equal(f->calls, 0);
}

static void on_last(bool right, void *userdata)
{
        struct fixture *f = userdata;

        (void)right;
        f->passwords = passwords_free(f->passwords);
        f->calls++;
}

static void test_free_within_the_callback(void **state)
{
        struct fixture *f = *state;

        assert_int_equal(passwords_verify(f->passwords, good, NULL, on_last, f), 0);
        assert_int_equal(passwords_verify(f->passwords, good, NULL, on_last, f), 0);
        run_until(f, 1);
        assert_null(f->passwords);
}

int main(void)
{
        const struct CMUnitTest tests[] = {
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
                T(test_right_and_wrong),
                T(test_salt),
                T(test_unknown_user_takes_as_long),
                T(test_acceptable),
                T(test_delay),
                T(test_queue),
                T(test_free_within_the_callback),
        };

        return cmocka_run_group_tests(tests, NULL, NULL);
}
