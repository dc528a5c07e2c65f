#include "update/reboot.h"

#include "base/cleanup.h"
#include "base/file.h"
#include "base/json.h"
#include "base/text.h"

#include <fcntl.h>
#include <string.h>

#define BOOT_ID      "/proc/sys/kernel/random/boot_id"
#define FILE_MAXIMUM ((size_t)4096)

static bool read_boot(char ret[64])
{
        _cleanup_close_ int fd = open(BOOT_ID, O_RDONLY | O_CLOEXEC);
        ssize_t n = fd >= 0 ? read(fd, ret, 63) : -1;

        if (n <= 0)
                return false;
        ret[n] = '\0';
        ret[strcspn(ret, "\n")] = '\0';
        return true;
}

/* A container keeps the host's number: there, the first process has another beginning. */
static long long first_process_began(void)
{
        _cleanup_close_ int fd = open("/proc/1/stat", O_RDONLY | O_CLOEXEC);
        char text[1024], *at;
        ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;

        if (n <= 0)
                return 0;
        text[n] = '\0';
        at = strrchr(text, ')');
        for (int field = 2; at && field < 22; field++)
                at = strchr(at + 1, ' ');
        return at ? atoll(at + 1) : 0;
}

int reboot_note(const char *path, const char *id)
{
        json_auto_t *object = NULL;
        _cleanup_free_ char *text = NULL;
        char boot[64] = "";

        read_boot(boot);
        object = json_pack(
                "{s:s,s:s,s:I}", "id", id, "boot", boot, "began", (json_int_t)first_process_began());
        text = json_to_text(object);
        return file_save(path, text, strlen(text), 0644, NULL);
}

bool reboot_was_done(const char *path, const char *id)
{
        json_auto_t *object = NULL;
        _cleanup_free_ char *text = NULL;
        char boot[64] = "";
        size_t length;

        if (file_read(path, FILE_MAXIMUM, &text, &length, NULL) < 0 ||
                json_parse(text, length, FILE_MAXIMUM, path, &object, NULL) < 0 ||
                !str_equal(json_string_value(json_object_get(object, "id")), id))
                return false;
        read_boot(boot);
        return !str_equal(json_string_value(json_object_get(object, "boot")), boot) ||
               json_integer_value(json_object_get(object, "began")) != first_process_began();
}
