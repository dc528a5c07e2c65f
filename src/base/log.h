/* What a daemon tells its operator: one line a fact, with fields. To the journal with its fields where
 * standard error is the journal (JOURNAL_STREAM, systemd.exec(5)), else as lines "TIME LEVEL message
 * key=value" on standard error. Only main programs and the parts that assemble them log; library code returns
 * errors. */
#pragma once

#include <stddef.h>
#include <stdint.h>

enum log_level { LOG_LEVEL_ERROR, LOG_LEVEL_WARNING, LOG_LEVEL_INFO, LOG_LEVEL_DEBUG };

/* `program` is kept (static). Lines above `most` are left out. */
void log_open(const char *program, enum log_level most);
/* Message, then pairs of key ("node", lower case) and value (a text, NULL: left out), then NULL. Never put a
 * secret there. Bytes that cannot be shown are escaped. */
void log_event(enum log_level level, const char *message, ...) __attribute__((sentinel));
/* printf form, without fields. */
void log_text(enum log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* For what somebody outside can cause at will: says whether this one is to be logged. The first of a window
 * is; the rest are counted, and *ret_suppressed tells how many were since the last that was logged. {0}. */
struct log_limit {
        uint64_t window_began_us;
        unsigned suppressed;
};
int log_limit_allows(struct log_limit *l, uint64_t now_us, uint64_t window_us, unsigned *ret_suppressed);
