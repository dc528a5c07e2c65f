#include "golden.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/version.h"

// clang-format off
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
// clang-format on
#include <stdlib.h>
#include <string.h>

static char *source_path(const char *path)
{
        const char *root = getenv("SOURCE_ROOT");

        return xasprintf("%s/%s", root ? root : ".", path);
}

char *golden_source_file(const char *path)
{
        char *full = source_path(path), *data = NULL;
        struct error error = {0};
        size_t length;

        if (file_read(full, 4 << 20, &data, &length, &error) < 0)
                fail_msg("%s", error.text);
        free(full);
        return data;
}

static char *without_version(const char *s)
{
        static const char version[] = "gridnode " GRIDNODE_VERSION;
        struct text t = {0};

        for (const char *at; (at = strstr(s, version)); s = at + strlen(version))
                text_addf(&t, "%.*sgridnode VERSION", (int)(at - s), s);
        text_add(&t, s);
        return text_take(&t);
}

void golden_check(const char *name, const char *text)
{
        char *relative = xasprintf("tests/unit/diagnose/golden/%s", name), *seen = without_version(text);

        if (getenv("GOLDEN_UPDATE")) {
                char *full = source_path(relative);
                struct error error = {0};

                if (file_save(full, seen, strlen(seen), 0644, &error) < 0)
                        fail_msg("%s", error.text);
                free(full);
        } else {
                char *wanted = golden_source_file(relative);

                assert_string_equal(seen, wanted);
                free(wanted);
        }
        free(relative);
        free(seen);
}

char *golden_report_text(const struct report *r, const struct report_style *style)
{
        char *data = NULL;
        size_t size = 0;
        FILE *f = open_memstream(&data, &size);

        assert_non_null(f);
        report_write_text(r, style, f);
        assert_int_equal(fclose(f), 0);
        return data;
}
