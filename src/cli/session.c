#include "cli/session.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "cli/program.h"
#include "cli/stop.h"
#include "cli/terminal.h"

#include <stdarg.h>
#include <string.h>
#include <sysexits.h>

#define MESSAGE_MAX_BYTES 1024

/* Arguments and files are quoted in messages: no control byte of theirs may reach the terminal. */
static void say(const struct session *s, const char *format, va_list arguments)
{
        _cleanup_free_ char *raw = xvasprintf(format, arguments);
        _cleanup_free_ char *line = str_printable(raw, strlen(raw), MESSAGE_MAX_BYTES);

        terminal_progress_end();
        fprintf(stderr, "%s%s%s: %s\n", program.name, s->command ? " " : "",
                s->command ? s->command->name : "", line);
}

int session_fail(const struct session *s, int status, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        say(s, format, arguments);
        va_end(arguments);
        return status;
}

int session_usage_error(const struct session *s, const char *format, ...)
{
        va_list arguments;

        va_start(arguments, format);
        say(s, format, arguments);
        va_end(arguments);
        fprintf(stderr, "Try '%s%s%s --help'.\n", program.name, s->command ? " " : "",
                s->command ? s->command->name : "");
        return EX_USAGE;
}

void session_done(struct session *s)
{
        s->site = site_free(s->site);
        s->profile = profile_free(s->profile);
}

struct writer *session_writer(const struct session *s)
{
        struct writer *w = writer_new();

        if (!s->settings.json)
                writer_stream(w, terminal_has_colour(stdout), stdout);
        return w;
}

int session_write(const struct session *s, struct writer *w, int status)
{
        terminal_progress_end();
        if (s->settings.json)
                writer_write_json(w, stdout);
        else
                writer_flush(w);
        return stop_signal() ? 128 + stop_signal() : status;
}
