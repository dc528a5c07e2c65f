/* Runs a fuzzer over every file of the folders given, in the place of libFuzzer's main: what a fuzzer once
 * found stays tested, with any compiler. Ends with 1 when a folder cannot be read or holds no file. */
#include "fuzz.h"

#include "base/cleanup.h"
#include "base/file.h"

#include <dirent.h>
#include <stdio.h>
#include <string.h>

#define MAX_INPUT_BYTES ((size_t)16 << 20)

static int is_input(const struct dirent *entry)
{
        return entry->d_name[0] != '.';
}

static int run_file(const char *folder, const char *name)
{
        _cleanup_free_ char *data = NULL;
        char path[4096];
        size_t length = 0;
        struct error e;

        if ((size_t)snprintf(path, sizeof(path), "%s/%s", folder, name) >= sizeof(path))
                return -1;
        if (file_read(path, MAX_INPUT_BYTES, &data, &length, &e) < 0) {
                fprintf(stderr, "%s\n", e.text);
                return -1;
        }
        /* The name first: after a crash it is the last line. */
        printf("%s\n", path);
        fflush(stdout);
        /* A buffer of exactly the right size, so that a sanitizer sees a read past its end. */
        char *exact = malloc(length ? length : 1);
        if (!exact)
                return -1;
        memcpy(exact, data, length);
        LLVMFuzzerTestOneInput((const uint8_t *)exact, length);
        free(exact);
        return 0;
}

static int run_folder(const char *folder)
{
        struct dirent **entries;
        int count = scandir(folder, &entries, is_input, alphasort), failed = 0;

        if (count < 0) {
                perror(folder);
                return -1;
        }
        for (int i = 0; i < count; i++) {
                failed |= run_file(folder, entries[i]->d_name) < 0;
                free(entries[i]);
        }
        free(entries);
        if (count == 0)
                fprintf(stderr, "%s: no inputs\n", folder);
        return count == 0 || failed ? -1 : 0;
}

int main(int argc, char **argv)
{
        int failed = argc < 2;

        for (int i = 1; i < argc; i++)
                failed |= run_folder(argv[i]) < 0;
        return failed;
}
