#include "update/apt_text.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define MOST_BYTES 1125899906842624.0 /* 2^50: what update_state takes */

/* ---- words ---- */

/* The next word up to one of `ends`, which is skipped; false when it is empty or too long. */
static bool take_until(const char **at, const char *ends, char *ret, size_t size)
{
        size_t length = strcspn(*at, ends);

        if (length == 0 || length >= size || (*at)[length] == '\0')
                return false;
        memcpy(ret, *at, length);
        ret[length] = '\0';
        *at += length + 1;
        return true;
}

/* What a package's name and version are made of (deb-version(7)); nothing that could disturb a terminal. */
static bool is_plain(const char *s)
{
        for (; *s; s++)
                if (*s <= ' ' || *s > '~')
                        return false;
        return true;
}

bool apt_text_change(const char *line, struct update_package *ret)
{
        struct update_package p = {0};

        if (!str_starts_with(line, "Inst "))
                return false;
        line += strlen("Inst ");
        if (!take_until(&line, " ", p.name, sizeof p.name))
                return false;
        if (*line == '[') {
                line++;
                if (!take_until(&line, "]", p.from, sizeof p.from) || *line != ' ')
                        return false;
                line++;
        }
        if (*line++ != '(' || !take_until(&line, " )", p.to, sizeof p.to))
                return false;
        if (!is_plain(p.name) || !is_plain(p.from) || !is_plain(p.to))
                return false;
        *ret = p;
        return true;
}

bool apt_text_file(const char *line, struct apt_file *ret)
{
        struct apt_file u = {0};
        char number[24], *end;

        if (*line++ != '\'' || !take_until(&line, "'", u.uri, sizeof u.uri) || *line++ != ' ')
                return false;
        if (!take_until(&line, " ", u.file, sizeof u.file) || strchr(u.file, '/') || u.file[0] == '.' ||
                !is_plain(u.file) || !is_plain(u.uri))
                return false;
        if (!take_until(&line, " ", number, sizeof number) && strlen(line) < sizeof number)
                str_copy(number, sizeof number, line);
        if (strspn(number, "0123456789") != strlen(number) || strlen(number) == 0 || strlen(number) > 15)
                return false;
        u.bytes = strtoull(number, &end, 10);
        *ret = u;
        return true;
}

/* "18.3 kB": apt's units are thousands (SizeToStr). */
static bool take_size(const char *s, double *ret)
{
        static const char *const units[] = {" B", " kB", " MB", " GB", " TB"};
        size_t digits = strspn(s, "0123456789.,");
        char number[32];
        double factor = 1;
        size_t n = 0;

        if (digits == 0 || digits >= sizeof number)
                return false;
        for (size_t i = 0; i < digits; i++)
                if (s[i] != ',')
                        number[n++] = s[i];
        number[n] = '\0';
        for (size_t i = 0; i < ELEMENTS(units); i++, factor *= 1000)
                if (str_starts_with(s + digits, units[i])) {
                        *ret = fmin(strtod(number, NULL) * factor, MOST_BYTES);
                        return true;
                }
        return false;
}

bool apt_text_space(const char *line, int64_t *ret_bytes)
{
        static const char after[] = "After this operation, ";
        double size;

        if (!str_starts_with(line, after) || !take_size(line + strlen(after), &size))
                return false;
        *ret_bytes = strstr(line, "will be freed") ? -(int64_t)size : (int64_t)size;
        return true;
}

bool apt_text_status(const char *line, struct apt_status *ret)
{
        static const char *const kinds[] = {"dlstatus:", "pmstatus:", "pmerror:", "pmconffile:"};
        struct apt_status s = {0};
        char percent[24];

        for (size_t i = 0; i < ELEMENTS(kinds); i++) {
                const char *at = line + strlen(kinds[i]), *colon;

                if (!str_starts_with(line, kinds[i]))
                        continue;
                s.kind = (enum apt_status_kind)i;
                if (!take_until(&at, ":", s.package, sizeof s.package))
                        return false;
                /* "libc6:amd64:42.0:…": the name may have a colon of its own, the percentage has none. */
                colon = strchr(at, ':');
                if (colon && strspn(at, "0123456789.") != (size_t)(colon - at))
                        at = colon + 1;
                if (!take_until(&at, ":", percent, sizeof percent) ||
                        strspn(percent, "0123456789.") != strlen(percent))
                        return false;
                s.percent = fmin(strtod(percent, NULL), 100);
                for (size_t k = 0; at[k] && k + 1 < sizeof s.text; k++)
                        s.text[k] = at[k] < ' ' || at[k] > '~' ? '?' : at[k];
                *ret = s;
                return true;
        }
        return false;
}

/* ---- complaints ---- */

static const struct {
        const char *code;
        bool is_permanent;
} failures[] = {
        [APT_FAILURE_NONE] = {"", false},
        [APT_FAILURE_OTHER] = {"apt.failed", true},
        [APT_FAILURE_WAY] = {"apt.way", false},
        [APT_FAILURE_DIED] = {"apt.died", false},
        [APT_FAILURE_LOOK_UP] = {"apt.look-up", false},
        [APT_FAILURE_LOCK] = {"apt.locked", false},
        [APT_FAILURE_METHOD] = {"apt.method", true},
        [APT_FAILURE_REFUSED] = {"apt.refused", true},
        [APT_FAILURE_NOT_FOUND] = {"apt.not-found", true},
        [APT_FAILURE_HASH] = {"apt.hash", true},
        [APT_FAILURE_EXPIRED] = {"apt.expired", true},
        [APT_FAILURE_EARLY] = {"apt.not-valid-yet", true},
        [APT_FAILURE_SIGNATURE] = {"apt.signature", true},
        [APT_FAILURE_DEPENDS] = {"apt.depends", true},
        [APT_FAILURE_DISK] = {"apt.disk", true},
        [APT_FAILURE_INTERRUPTED] = {"apt.interrupted", true},
        [APT_FAILURE_DPKG] = {"apt.dpkg", true},
};

const char *apt_failure_to_string(enum apt_failure f)
{
        return failures[f].code;
}

bool apt_failure_is_permanent(enum apt_failure f)
{
        return failures[f].is_permanent;
}

/* The first word that is found decides. Those of the way are the apt method's: it says 404 and the like in
 * the words of HTTP, and everything else may mend itself. */
static const struct {
        const char *word;
        enum apt_failure failure;
} words[] = {
        {"dpkg was interrupted", APT_FAILURE_INTERRUPTED},
        {"returned an error code (", APT_FAILURE_DPKG},
        {"error processing package", APT_FAILURE_DPKG},
        {"error processing archive", APT_FAILURE_DPKG},
        {"The method driver", APT_FAILURE_METHOD},
        {"gridnode has died unexpectedly", APT_FAILURE_DIED},
        {"Sub-process gridnode ", APT_FAILURE_DIED},
        {"received a segmentation fault", APT_FAILURE_DPKG},
        {"exited unexpectedly", APT_FAILURE_DPKG},
        {"enough free space", APT_FAILURE_DISK},
        {"No space left on device", APT_FAILURE_DISK},
        {"unmet dependencies", APT_FAILURE_DEPENDS},
        {"held broken packages", APT_FAILURE_DEPENDS},
        {"Unmet dependencies", APT_FAILURE_DEPENDS},
        {"Could not get lock", APT_FAILURE_LOCK},
        {"Unable to acquire the dpkg frontend lock", APT_FAILURE_LOCK},
        {"Unable to lock directory", APT_FAILURE_LOCK},
        {"NO_PUBKEY", APT_FAILURE_SIGNATURE},
        {"BADSIG", APT_FAILURE_SIGNATURE},
        {"EXPKEYSIG", APT_FAILURE_SIGNATURE},
        {"REVKEYSIG", APT_FAILURE_SIGNATURE},
        {"is not signed", APT_FAILURE_SIGNATURE},
        {"signatures were invalid", APT_FAILURE_SIGNATURE},
        {"signatures couldn't be verified", APT_FAILURE_SIGNATURE},
        {"isn't valid, got 'NOSPLIT'", APT_FAILURE_SIGNATURE},
        {"cannot be authenticated", APT_FAILURE_SIGNATURE},
        {"There were unauthenticated packages", APT_FAILURE_SIGNATURE},
        {"is expired (invalid since", APT_FAILURE_EXPIRED},
        {"is not valid yet (invalid for another", APT_FAILURE_EARLY},
        {"Hash Sum mismatch", APT_FAILURE_HASH},
        {"unexpected size", APT_FAILURE_HASH},
        {"insufficient hash", APT_FAILURE_HASH},
        {"does not have a Release file", APT_FAILURE_NOT_FOUND},
        {"Unable to locate package", APT_FAILURE_NOT_FOUND},
        {"was not found", APT_FAILURE_NOT_FOUND},
        {"404  Not Found", APT_FAILURE_NOT_FOUND},
        {"status 404", APT_FAILURE_NOT_FOUND},
        {"status 410", APT_FAILURE_NOT_FOUND},
        {"status 401", APT_FAILURE_REFUSED},
        {"status 403", APT_FAILURE_REFUSED},
        {"no DNS server", APT_FAILURE_LOOK_UP},
        {"DNS", APT_FAILURE_LOOK_UP},
        {"resolve", APT_FAILURE_LOOK_UP},
        {"Failed to fetch", APT_FAILURE_WAY},
};

static enum apt_failure failure_of(const char *text, enum apt_failure otherwise)
{
        for (size_t i = 0; i < ELEMENTS(words); i++)
                if (strstr(text, words[i].word))
                        return words[i].failure;
        return otherwise;
}

/* Without what only says that something failed. */
static const char *without_preamble(const char *s)
{
        static const char fetch[] = "Failed to fetch ";
        const char *gap;

        if (s[0] && s[1] == ':' && s[2] == ' ')
                s += 3;
        if (!str_starts_with(s, fetch))
                return s;
        gap = strstr(s, "  ");
        return gap && gap[2] ? gap + 2 : s;
}

static void complain(struct apt_complaints *c, enum apt_failure failure, const char *text)
{
        _cleanup_free_ char *shown = str_excerpt(text, strlen(text), sizeof c->text - 1);

        if (failure <= c->failure)
                return;
        c->failure = failure;
        str_copy(c->text, sizeof c->text, shown);
}

/* What sums up others, or says nothing by itself. */
static bool is_summary(const char *s)
{
        return str_starts_with(s, "Some index files failed to download") ||
               str_starts_with(s, "Unable to fetch some archives") ||
               str_starts_with(s, "Problem executing scripts") || str_starts_with(s, "Some files failed");
}

void apt_complaints_take(struct apt_complaints *c, const char *line)
{
        bool was_err = c->after_err;
        const char *text = without_preamble(line);

        c->after_err = str_starts_with(line, "Err:");
        if (was_err && line[0] == ' ') {
                while (*line == ' ')
                        line++;
                complain(c, failure_of(line, APT_FAILURE_WAY), line);
                return;
        }
        if (str_starts_with(line, "dpkg: error")) {
                complain(c, failure_of(line, APT_FAILURE_OTHER), line);
                return;
        }
        if (!str_starts_with(line, "E: ") && !str_starts_with(line, "W: "))
                return;
        if (is_summary(text)) {
                /* With nothing else said: that something did not come. */
                complain(c, APT_FAILURE_OTHER, text);
                return;
        }
        if (line[0] == 'W' && failure_of(line, APT_FAILURE_NONE) == APT_FAILURE_NONE)
                return;
        complain(c, failure_of(text, strstr(line, "Failed to fetch") ? APT_FAILURE_WAY : APT_FAILURE_OTHER),
                text);
}
