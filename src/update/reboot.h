/* Whether the machine was restarted since it was told to: by the number of the boot (random(4), boot_id). */
#pragma once

#include <stdbool.h>

int reboot_note(const char *path, const char *id); /* before it is told. 0 or -errno */
bool reboot_was_done(const char *path, const char *id);
