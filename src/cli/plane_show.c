#include "cli/plane_show.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <termios.h>

#define PASSWORD_MAX_BYTES 1024

void plane_show_json(const json_t *value)
{
        json_dumpf(value, stdout, JSON_INDENT(2) | JSON_REAL_PRECISION(12));
        putchar('\n');
}

int plane_show_list(const struct session *s, const char *path, const struct table_column *columns,
        size_t count, const char *empty)
{
        json_t *list = NULL;
        int status = plane_list(s, path, &list);

        if (status != EXIT_SUCCESS)
                return status;
        if (s->settings.json)
                plane_show_json(list);
        else
                table_write(json_object_get(list, "items"), columns, count, empty, stdout);
        json_decref(list);
        return EXIT_SUCCESS;
}

/* ---- comma-separated values ---- */

static void write_field(const char *s)
{
        const char *mark = *s && strchr("=+-@\t\r", *s) ? "'" : ""; /* a formula, by somebody else's words */

        if (!strpbrk(s, "\",\r\n")) {
                printf("%s%s", mark, s);
                return;
        }
        printf("\"%s", mark);
        for (; *s; s++)
                printf(*s == '"' ? "\"%c" : "%c", *s);
        putchar('"');
}

static void write_value(const json_t *v)
{
        _cleanup_free_ char *text = NULL;

        if (json_is_string(v)) {
                write_field(json_string_value(v));
        } else if (v && !json_is_null(v)) {
                text = json_dumps(v, JSON_COMPACT | JSON_ENCODE_ANY);
                write_field(text ? text : "");
        }
}

void plane_show_csv(const json_t *items, const struct table_column *columns, size_t count)
{
        const json_t *item;
        size_t i;

        for (size_t c = 0; c < count; c++)
                printf("%s%s", c ? "," : "", columns[c].member);
        fputs("\r\n", stdout);
        json_array_foreach(items, i, item)
        {
                for (size_t c = 0; c < count; c++) {
                        if (c)
                                putchar(',');
                        write_value(json_object_get(item, columns[c].member));
                }
                fputs("\r\n", stdout);
        }
}

int plane_show_list_or_csv(const struct session *s, const char *path, const struct table_column *columns,
        size_t count, const char *empty)
{
        json_t *list = NULL;
        int status;

        if (!s->settings.csv)
                return plane_show_list(s, path, columns, count, empty);
        if (s->settings.json)
                return session_usage_error(s, "--csv excludes --json");
        status = plane_list(s, path, &list);
        if (status == EXIT_SUCCESS)
                plane_show_csv(json_object_get(list, "items"), columns, count);
        json_decref(list);
        return status;
}

int plane_show_secret(const struct session *s, const char *secret)
{
        _cleanup_free_ char *line = xasprintf("%s\n", secret);
        struct error e = {0};

        if (!s->settings.output_path) {
                fputs(line, stdout);
                return EXIT_SUCCESS;
        }
        if (file_save(s->settings.output_path, line, strlen(line), 0600, &e) < 0)
                return session_fail(s, EXIT_FAILURE, "%s", e.text);
        return EXIT_SUCCESS;
}

/* ---- passwords ---- */

static bool read_line(FILE *from, char *ret)
{
        if (!fgets(ret, PASSWORD_MAX_BYTES + 2, from))
                return false;
        ret[strcspn(ret, "\r\n")] = 0;
        return true;
}

static bool ask(FILE *terminal, const char *prompt, char *ret)
{
        struct termios shown, hidden;
        bool ok;

        fputs(prompt, terminal);
        fflush(terminal);
        if (tcgetattr(fileno(terminal), &shown) < 0)
                return false;
        hidden = shown;
        hidden.c_lflag &= ~(tcflag_t)ECHO;
        tcsetattr(fileno(terminal), TCSAFLUSH, &hidden);
        ok = read_line(terminal, ret);
        tcsetattr(fileno(terminal), TCSAFLUSH, &shown);
        fputc('\n', terminal);
        return ok;
}

static int ask_twice(const struct session *s, char *ret)
{
        char again[PASSWORD_MAX_BYTES + 2] = "";
        FILE *terminal = fopen("/dev/tty", "r+");
        int status = EXIT_SUCCESS;

        if (!terminal)
                return session_usage_error(
                        s, "there is no terminal to ask for the password: give --password-file");
        if (!ask(terminal, "Password: ", ret) || !ask(terminal, "Again: ", again))
                status = session_fail(s, EXIT_FAILURE, "no password was given");
        else if (!str_equal(ret, again))
                status = session_usage_error(s, "the two passwords are not the same");
        fclose(terminal);
        explicit_bzero(again, sizeof again);
        return status;
}

static int read_file(const struct session *s, const char *path, char *ret)
{
        bool is_stdin = str_equal(path, "-");
        FILE *from = is_stdin ? stdin : fopen(path, "re");
        bool ok;

        if (!from)
                return session_fail(s, EXIT_FAILURE, "%s: %s", path, strerror(errno));
        ok = read_line(from, ret);
        if (!is_stdin)
                fclose(from);
        return ok ? EXIT_SUCCESS : session_fail(s, EXIT_FAILURE, "%s: no password is in it", path);
}

int plane_read_password(const struct session *s, char **ret)
{
        char password[PASSWORD_MAX_BYTES + 2] = "";
        int status = s->settings.password_path ? read_file(s, s->settings.password_path, password)
                                               : ask_twice(s, password);

        if (status == EXIT_SUCCESS)
                *ret = xstrdup(password);
        explicit_bzero(password, sizeof password);
        return status;
}
