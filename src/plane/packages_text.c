/* What reprepro, dpkg-deb and gpg say, taken apart. Pure. */
#include "plane/packages_internal.h"

#include "base/alloc.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#define SHOWN_BYTES 300
#define MAX_LINE    2048
#define MAX_FIELDS  8
#define KEY_CREATED "[GNUPG:] KEY_CREATED P "
#define SHA256_TEXT 64
#define TIME_TEXT   64

/* ---- names (deb-control(5), deb-version(7)) ---- */

static bool is_of(const char *s, const char *more, bool upper)
{
        size_t length = 0;

        for (; s[length]; length++) {
                unsigned char c = (unsigned char)s[length];

                if (!isascii(c) || (!islower(c) && !isdigit(c) && !(upper && isupper(c)) && !strchr(more, c)))
                        return false;
        }
        return length > 0 && length < PACKAGE_WORD_MAXIMUM;
}

bool package_is_name(const char *s)
{
        return is_of(s, "+-.", false) && isalnum((unsigned char)s[0]) && s[1];
}

bool package_is_version(const char *s)
{
        return is_of(s, ".+-:~", true) && isdigit((unsigned char)s[0]);
}

bool package_is_architecture(const char *s)
{
        _cleanup_(strv_done) struct strv known = {0};

        strv_split(&known, PACKAGE_ARCHITECTURES " all", ' ');
        return strv_contains(&known, s);
}

static bool is_sha256(const char *s)
{
        return strlen(s) == SHA256_TEXT && strspn(s, "0123456789abcdef") == SHA256_TEXT;
}

/* A relative path of plain characters without a step upwards or a hidden part. */
static bool is_path(const char *s)
{
        if (!is_of(s, "+-._~%:/", true) || *s == '/' || *s == '.' || strstr(s, "/.") || strstr(s, "//"))
                return false;
        return s[strlen(s) - 1] != '/';
}

/* ---- lines of fields ---- */

struct line {
        char text[MAX_LINE];
        char *fields[MAX_FIELDS];
        size_t count;
};

/* Takes the line at *at apart at its tabs. */
static bool take_line(const char **at, struct line *ret)
{
        size_t length = strcspn(*at, "\n");

        if (length >= sizeof(ret->text))
                return false;
        memcpy(ret->text, *at, length);
        ret->text[length] = '\0';
        *at += length + ((*at)[length] == '\n');
        ret->count = 0;
        for (char *c = ret->text; c && ret->count < MAX_FIELDS;) {
                ret->fields[ret->count++] = c;
                c = strchr(c, '\t');
                if (c)
                        *c++ = '\0';
        }
        return true;
}

int package_control_parse(const char *text, struct package_control *ret, struct error *ret_error)
{
        static const char code[] = "package.malformed";
        struct package_control c = {0};
        struct line l;

        if (!take_line(&text, &l) || l.count != 5)
                return error_set(ret_error, EBADMSG, code, "its control file cannot be read");
        if (!package_is_name(l.fields[0]))
                return error_set(ret_error, EBADMSG, code,
                        "its control file has no Package, or one that is none (deb-control(5))");
        if (!package_is_version(l.fields[1]))
                return error_set(ret_error, EBADMSG, code,
                        "its control file has no Version, or one that is none (deb-version(7))");
        if (!package_is_architecture(l.fields[2])) {
                _cleanup_free_ char *shown = str_excerpt(l.fields[2], strlen(l.fields[2]), 40);

                return error_set(ret_error, EBADMSG, "package.architecture",
                        "it is for the architecture '%s', and this repository has " PACKAGE_ARCHITECTURES
                        " and all",
                        shown);
        }
        str_copy(c.name, sizeof(c.name), l.fields[0]);
        str_copy(c.version, sizeof(c.version), l.fields[1]);
        str_copy(c.architecture, sizeof(c.architecture), l.fields[2]);
        c.has_section = *l.fields[3];
        c.has_priority = *l.fields[4];
        *ret = c;
        return 0;
}

int package_row_next(const char **at, struct package_row *ret, struct error *ret_error)
{
        struct package_row row = {0};
        unsigned long size;
        struct line l;

        if (!**at)
                return 0;
        if (!take_line(at, &l) || l.count != 6 || !package_is_name(l.fields[0]) ||
                !package_is_version(l.fields[1]) || !package_is_architecture(l.fields[2]) ||
                str_to_ulong(l.fields[3], 0, INT64_MAX, &size) < 0 || !is_sha256(l.fields[4]) ||
                strlen(l.fields[5]) >= sizeof(row.file) || !is_path(l.fields[5]))
                return error_set(ret_error, EBADMSG, "repository.list",
                        "a line of reprepro's list cannot be read: %.100s", l.text);
        str_copy(row.name, sizeof(row.name), l.fields[0]);
        str_copy(row.version, sizeof(row.version), l.fields[1]);
        str_copy(row.architecture, sizeof(row.architecture), l.fields[2]);
        str_copy(row.sha256, sizeof(row.sha256), l.fields[4]);
        str_copy(row.file, sizeof(row.file), l.fields[5]);
        row.size_bytes = (int64_t)size;
        *ret = row;
        return 1;
}

/* ---- Release ---- */

static const char *skip_line(const char *s)
{
        s += strcspn(s, "\n");
        return *s ? s + 1 : s;
}

/* The first line of the section after "SHA256:"; the end of the text when there is none. */
static const char *find_index(const char *release)
{
        while (*release && !str_starts_with(release, "SHA256:"))
                release = skip_line(release);
        return skip_line(release);
}

int package_index_next(const char **at, struct package_index *ret, struct error *ret_error)
{
        char line[MAX_LINE], hash[SHA256_TEXT + 1] = "", path[sizeof(ret->path)] = "";
        int end = 0;
        size_t length;

        if (**at != ' ') /* not in the section yet; a field after it ends it */
                *at = str_starts_with(*at, "\n") || !**at ? "" : find_index(*at);
        length = strcspn(*at, "\n");
        if (**at != ' ') {
                *at = "";
                return 0;
        }
        snprintf(line, sizeof(line), "%.*s", (int)(length < sizeof(line) ? length : sizeof(line) - 1), *at);
        if (length >= sizeof(line) || sscanf(line, " %64s %*u %255s%n", hash, path, &end) != 2 || line[end] ||
                !is_sha256(hash) || !is_path(path))
                return error_set(ret_error, EBADMSG, "repository.release",
                        "a line of reprepro's Release cannot be read: %.100s", line);
        *at = skip_line(*at);
        if (**at != ' ') /* so that the next call does not look for another section */
                *at = "";
        str_copy(ret->sha256, sizeof(ret->sha256), hash);
        str_copy(ret->path, sizeof(ret->path), path);
        return 1;
}

static bool is_kept_field(const char *line)
{
        static const char *const fields[] = {"Origin:", "Label:", "Suite:", "Codename:", "Version:",
                "Architectures:", "Components:", "Description:"};

        for (size_t i = 0; i < ELEMENTS(fields); i++)
                if (str_starts_with(line, fields[i]))
                        return true;
        return false;
}

static void add_line(struct text *t, const char *line)
{
        _cleanup_free_ char *copy = xstrndup(line, strcspn(line, "\n"));

        text_add(t, copy);
        text_add(t, "\n");
}

/* As Debian's Release has it: in English and UTC whatever the locale. */
static void add_time(struct text *t, const char *field, int64_t unix_s)
{
        static const char *const days[] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
        static const char *const months[] = {
                "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
        time_t time = (time_t)unix_s;
        struct tm tm;

        gmtime_r(&time, &tm);
        text_addf(t, "%s: %s, %02d %s %d %02d:%02d:%02d UTC\n", field, days[tm.tm_wday], tm.tm_mday,
                months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min, tm.tm_sec);
}

char *package_release_text(const char *release, int64_t now_unix, int64_t valid_until_unix)
{
        struct text t = {0};
        const char *line;

        for (line = release; *line && *line != ' ' && !str_starts_with(line, "SHA256:");
                line = skip_line(line))
                if (is_kept_field(line))
                        add_line(&t, line);
        add_time(&t, "Date", now_unix);
        add_time(&t, "Valid-Until", valid_until_unix);
        text_add(&t, "Acquire-By-Hash: yes\nSHA256:\n");
        for (line = find_index(release); *line == ' '; line = skip_line(line))
                add_line(&t, line);
        return text_take(&t);
}

/* ---- gpg, and what is told of failures ---- */

bool package_key_created(const char *status, char ret[65])
{
        for (const char *line = status; *line; line = skip_line(line)) {
                size_t length;

                if (!str_starts_with(line, KEY_CREATED))
                        continue;
                line += strlen(KEY_CREATED);
                length = strspn(line, "0123456789ABCDEF");
                if (length != 40 && length != 64)
                        return false;
                snprintf(ret, 65, "%.*s", (int)length, line);
                return true;
        }
        return false;
}

/* What says only that something was said before, or that it goes on. */
static bool is_remark(const char *line, size_t length)
{
        static const char *const remarks[] = {"There have been errors!", "Exporting indices...",
                "Deleting files no longer referenced...", "gpg: WARNING:", "(reverse d-dependency"};

        for (size_t i = 0; i < ELEMENTS(remarks); i++)
                if (length >= strlen(remarks[i]) && str_starts_with(line, remarks[i]))
                        return true;
        return length == 0;
}

/* Without the program's name, which the caller tells. */
static const char *skip_name(const char *line)
{
        static const char *const names[] = {"dpkg-deb: error: ", "dpkg-deb: ", "gpg: ", "ERROR: ", "Error: "};

        for (size_t i = 0; i < ELEMENTS(names); i++)
                if (str_starts_with(line, names[i]))
                        return line + strlen(names[i]);
        return line;
}

static char *without_path(const char *text, const char *path)
{
        const char *at = path ? strstr(text, path) : NULL;
        bool is_quoted;

        if (!at)
                return xstrdup(text);
        is_quoted = at > text && at[-1] == '\'' && at[strlen(path)] == '\'';
        return xasprintf("%.*sthe file%s", (int)(at - text) - is_quoted, text, at + strlen(path) + is_quoted);
}

char *package_reason(const char *said, const char *path)
{
        _cleanup_free_ char *found = xstrdup("it said nothing"), *told = NULL;

        for (const char *line = said; *line; line = skip_line(line)) {
                size_t length = strcspn(line, "\n");

                if (is_remark(line, length))
                        continue;
                free(found);
                found = xstrndup(line, length);
                /* reprepro: the reason stands in the line that begins so, its details after it. */
                if (str_starts_with(line, "ERROR: ") || str_starts_with(line, "Error "))
                        break;
        }
        told = without_path(skip_name(found), path);
        return str_excerpt(told, strlen(told), SHOWN_BYTES);
}
