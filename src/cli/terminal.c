#include "cli/terminal.h"

#include "base/text.h"

#include <errno.h>
#include <langinfo.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

static bool progress_is_shown;
static int flush_error; /* of the first flush that failed */

bool terminal_has_colour(FILE *f)
{
        return isatty(fileno(f)) && str_is_empty(getenv("NO_COLOR")) && !str_equal(getenv("TERM"), "dumb");
}

bool terminal_is_utf8(void)
{
        return str_equal(nl_langinfo(CODESET), "UTF-8");
}

int terminal_width(FILE *f)
{
        struct winsize size;

        if (ioctl(fileno(f), TIOCGWINSZ, &size) < 0 || size.ws_col == 0)
                return 80;
        return size.ws_col < 40 ? 40 : size.ws_col > 200 ? 200 : size.ws_col;
}

void terminal_progress(const char *format, ...)
{
        char line[512];
        va_list arguments;

        if (!isatty(STDERR_FILENO) || str_equal(getenv("TERM"), "dumb"))
                return;
        va_start(arguments, format);
        vsnprintf(line, sizeof line, format, arguments);
        va_end(arguments);
        fprintf(stderr, "\r\033[K%.*s", terminal_width(stderr) - 1, line);
        fflush(stderr);
        progress_is_shown = true;
}

void terminal_progress_end(void)
{
        if (!progress_is_shown)
                return;
        fputs("\r\033[K", stderr);
        fflush(stderr);
        progress_is_shown = false;
}

void terminal_flush(FILE *f)
{
        errno = 0;
        if (fflush(f) == EOF && flush_error == 0)
                flush_error = errno ? errno : EIO;
}

/* A failed write leaves its errno only with the call that made it: flush, and ask the descriptor once more.
 */
int terminal_finish(void)
{
        int number = flush_error;

        errno = 0;
        if (number == 0 && fflush(stdout) == EOF)
                number = errno ? errno : EIO;
        else if (number == 0 && ferror(stdout))
                number = EIO;
        if (close(STDOUT_FILENO) < 0 && number == 0 && errno != EBADF)
                number = errno;
        return -number;
}
