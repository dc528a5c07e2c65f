#include "base/log.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/clock.h"
#include "base/text.h"

#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <syslog.h>
#include <systemd/sd-journal.h>

#define VALUE_MAX_BYTES 4096
#define FIELDS_MAX      32
#define FIELDS_FIXED    3 /* message, priority, identifier */

static const char *log_program = "gridnode";
static enum log_level log_most = LOG_LEVEL_INFO;
static bool log_to_journal;

struct field {
        const char *key;
        char *value; /* safe to show */
};

static const struct {
        const char *name;
        int priority;
} levels[] = {
        [LOG_LEVEL_ERROR] = {"error", LOG_ERR},
        [LOG_LEVEL_WARNING] = {"warning", LOG_WARNING},
        [LOG_LEVEL_INFO] = {"info", LOG_INFO},
        [LOG_LEVEL_DEBUG] = {"debug", LOG_DEBUG},
};

/* systemd.exec(5): the variable names the device and inode of the stream; a program whose standard error was
 * redirected since must not write to the journal. */
static bool stderr_is_journal(void)
{
        const char *stream = getenv("JOURNAL_STREAM");
        unsigned long long device, inode;
        struct stat st;
        char rest;

        return stream && sscanf(stream, "%llu:%llu%c", &device, &inode, &rest) == 2 &&
               fstat(STDERR_FILENO, &st) == 0 && st.st_dev == device && st.st_ino == inode;
}

void log_open(const char *program, enum log_level most)
{
        log_program = program;
        log_most = most;
        log_to_journal = stderr_is_journal();
}

/* ---- to the journal ---- */

static int send_to_journal(
        enum log_level level, const char *message, const struct field *fields, size_t count)
{
        struct iovec vectors[FIELDS_FIXED + FIELDS_MAX];
        int r;

        vectors[0].iov_base = xasprintf("MESSAGE=%s", message);
        vectors[1].iov_base = xasprintf("PRIORITY=%d", levels[level].priority);
        vectors[2].iov_base = xasprintf("SYSLOG_IDENTIFIER=%s", log_program);
        for (size_t i = 0; i < count; i++) {
                char *line = xasprintf("%s=%s", fields[i].key, fields[i].value);

                for (char *c = line; *c && *c != '='; c++)
                        *c = *c == '-' ? '_' : (char)toupper((unsigned char)*c);
                vectors[FIELDS_FIXED + i].iov_base = line;
        }
        for (size_t i = 0; i < FIELDS_FIXED + count; i++)
                vectors[i].iov_len = strlen(vectors[i].iov_base);
        r = sd_journal_sendv(vectors, (int)(FIELDS_FIXED + count));
        for (size_t i = 0; i < FIELDS_FIXED + count; i++)
                free(vectors[i].iov_base);
        return r;
}

/* ---- to standard error ---- */

static void add_value(struct text *line, const char *value)
{
        if (*value && !strpbrk(value, " \"=")) {
                text_add(line, value);
                return;
        }
        text_add(line, "\"");
        for (const char *c = value; *c; c++)
                text_addf(line, "%s%c", *c == '"' ? "\\" : "", *c);
        text_add(line, "\"");
}

static void write_line(const struct text *line)
{
        const char *at = text_string(line);
        size_t left = line->length;

        while (left > 0) {
                ssize_t n = write(STDERR_FILENO, at, left);

                if (n < 0 && errno == EINTR)
                        continue;
                /* Nobody reads: a daemon does not wait for that, and there is nobody to tell. */
                if (n <= 0)
                        return;
                at += n;
                left -= (size_t)n;
        }
}

static void send_to_stderr(
        enum log_level level, const char *message, const struct field *fields, size_t count)
{
        struct text line = {0};
        char when[32];

        time_format_utc(clock_unix_ms(), when);
        text_addf(&line, "%s %s %s", when, levels[level].name, message);
        for (size_t i = 0; i < count; i++) {
                text_addf(&line, " %s=", fields[i].key);
                add_value(&line, fields[i].value);
        }
        text_add(&line, "\n");
        write_line(&line);
        text_done(&line);
}

/* ---- both ---- */

static char *safe(const char *s)
{
        return str_printable(s, strlen(s), VALUE_MAX_BYTES);
}

static void send(enum log_level level, const char *message, const struct field *fields, size_t count)
{
        _cleanup_free_ char *shown = safe(message);

        if (!log_to_journal || send_to_journal(level, shown, fields, count) < 0)
                send_to_stderr(level, shown, fields, count);
}

void log_event(enum log_level level, const char *message, ...)
{
        struct field fields[FIELDS_MAX];
        int saved_errno = errno;
        va_list arguments;
        size_t count = 0;
        const char *key;

        if (level > log_most)
                return;
        va_start(arguments, message);
        while ((key = va_arg(arguments, const char *))) {
                const char *value = va_arg(arguments, const char *);

                if (value && count < FIELDS_MAX)
                        fields[count++] = (struct field){key, safe(value)};
        }
        va_end(arguments);
        send(level, message, fields, count);
        for (size_t i = 0; i < count; i++)
                free(fields[i].value);
        errno = saved_errno;
}

void log_text(enum log_level level, const char *format, ...)
{
        _cleanup_free_ char *message = NULL;
        int saved_errno = errno;
        va_list arguments;

        if (level > log_most)
                return;
        va_start(arguments, format);
        message = xvasprintf(format, arguments);
        va_end(arguments);
        send(level, message, NULL, 0);
        errno = saved_errno;
}

int log_limit_allows(struct log_limit *l, uint64_t now_us, uint64_t window_us, unsigned *ret_suppressed)
{
        /* A clock that went back makes the difference huge, and a new window begins. */
        if (l->window_began_us != 0 && now_us - l->window_began_us < window_us) {
                if (l->suppressed < UINT32_MAX)
                        l->suppressed++;
                return 0;
        }
        *ret_suppressed = l->suppressed;
        l->suppressed = 0;
        l->window_began_us = now_us ? now_us : 1; /* 0 means: none yet */
        return 1;
}
