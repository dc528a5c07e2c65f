/* Lines as apt-get and dpkg-query print them, every parser on each. */
#include "fuzz.h"

#include "base/text.h"
#include "update/apt_text.h"
#include "update/dpkg_text.h"
#include "update/release_text.h"

#include <stdlib.h>
#include <string.h>

static bool is_safe(const char *s)
{
        for (; *s; s++)
                if (*s < ' ' || *s > '~')
                        return false;
        return true;
}

static void try_apt(const char *line, struct apt_complaints *complaints)
{
        struct update_package package;
        struct apt_file file;
        struct apt_status status;
        int64_t space;

        if (apt_text_change(line, &package) && (!package.name[0] || !is_safe(package.name) ||
                                                       !is_safe(package.from) || !is_safe(package.to)))
                abort();
        if (apt_text_file(line, &file) &&
                (strchr(file.file, '/') || file.file[0] == '.' || !is_safe(file.file)))
                abort();
        if (apt_text_status(line, &status) &&
                (status.percent < 0 || status.percent > 100 || !is_safe(status.text)))
                abort();
        if (apt_text_space(line, &space) && (space > INT64_C(1) << 50 || space < -(INT64_C(1) << 50)))
                abort();
        apt_complaints_take(complaints, line);
        if (complaints->failure != APT_FAILURE_NONE && !apt_failure_to_string(complaints->failure)[0])
                abort();
}

static void try_dpkg(const char *line)
{
        struct dpkg_package package;

        if (dpkg_text_package(line, &package) &&
                (!package.name[0] || !is_safe(package.name) || !is_safe(package.version) ||
                        (dpkg_package_is_installed(&package) && dpkg_package_is_broken(&package))))
                abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct apt_complaints complaints = {0};
        struct release_text release;
        char *text = malloc(size + 1), *line, *rest;

        if (!text)
                return 0;
        memcpy(text, data, size);
        text[size] = '\0';
        release_text_parse((const char *)data, size, &release);
        if (!is_safe(release.origin) || !is_safe(release.label) || !is_safe(release.codename))
                abort();
        for (line = text; line; line = rest) {
                rest = strchr(line, '\n');
                if (rest)
                        *rest++ = '\0';
                try_apt(line, &complaints);
                try_dpkg(line);
        }
        free(text);
        return 0;
}
