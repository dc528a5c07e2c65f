#include "fuzz.h"

#include "base/keyfile.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        const struct keyfile_entry *e;
        struct keyfile *k = NULL;
        const char *section;
        struct error error;

        if (keyfile_parse("fuzz.conf", (const char *)data, size, &k, &error) < 0)
                return 0;
        keyfile_check_leftovers(k, &error);
        keyfile_take(k, "node", "name");
        for (size_t i = 0; (section = keyfile_section(k, i, NULL)); i++) {
                keyfile_section_error(k, i, "test", &error, "wrong");
                keyfile_take(k, section, "name");
                /* Half of them, so that leftovers are met in their middle too. */
                if (i % 2 == 0)
                        while ((e = keyfile_take_next(k, section)))
                                keyfile_value_error(k, e, &error, "wrong; do %s", "better");
        }
        keyfile_check_leftovers(k, &error);
        keyfile_free(k);
        return 0;
}
