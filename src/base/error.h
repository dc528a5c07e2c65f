/* The error contract: functions return 0 or -errno; where a person or the control plane sees the failure they
 * take a last `struct error *` that they fill with the fact: what failed, at what (host, address, file,
 * line), at which stage, why, what to do. Library code never logs. Results named ret_* are untouched on
 * failure. */
#pragma once

struct error {
        int number;       /* positive errno, 0: none */
        const char *code; /* stable, static, e.g. "config.unknown-key" */
        char text[512];   /* one sentence, no trailing newline */
};

/* Fills `ret` (may be NULL) and returns -number, so that `return error_set(...)` is the usual form. */
int error_set(struct error *ret, int number, const char *code, const char *format, ...)
        __attribute__((format(printf, 4, 5)));
/* Puts "prefix: " before the text that is there; returns -number (-EINVAL for NULL). */
int error_prefix(struct error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
