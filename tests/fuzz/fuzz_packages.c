/* What reprepro, dpkg-deb and gpg say of a package that somebody uploaded: the first byte chooses the parser.
 */
#include "fuzz.h"

#include "plane/packages_internal.h"

#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>

static void try_list(const char *text)
{
        struct package_row row;
        struct error e;

        while (package_row_next(&text, &row, &e) > 0)
                if (!package_is_name(row.name) || !package_is_version(row.version) || strstr(row.file, ".."))
                        abort();
}

/* What is signed names the same files as what it was made of, and by-hash leads nowhere else. */
static void try_release(const char *text)
{
        _cleanup_free_ char *made = package_release_text(text, 1795230000, 1795834800);
        const char *at = text, *again = made;
        struct package_index a, b;
        struct error e;
        int r;

        while ((r = package_index_next(&at, &a, &e)) > 0)
                if (package_index_next(&again, &b, &e) != 1 || strcmp(a.path, b.path) != 0 ||
                        strcmp(a.sha256, b.sha256) != 0 || *a.path == '/' || strstr(a.path, ".."))
                        abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        _cleanup_free_ char *text = size > 0 ? xstrndup((const char *)data + 1, size - 1) : xstrdup("");
        _cleanup_free_ char *reason = NULL;
        struct package_control control;
        char fingerprint[65];
        struct error e;

        switch (size > 0 ? data[0] : 0) {
        case 'c':
                if (package_control_parse(text, &control, &e) == 0 &&
                        (!package_is_name(control.name) || !package_is_version(control.version)))
                        abort();
                break;
        case 'l':
                try_list(text);
                break;
        case 'r':
                try_release(text);
                break;
        case 'k':
                if (package_key_created(text, fingerprint) && strlen(fingerprint) < 40)
                        abort();
                break;
        default:
                reason = package_reason(text, "/var/lib/x.deb");
                if (strlen(reason) > 300)
                        abort();
        }
        return 0;
}
