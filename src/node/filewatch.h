/* A file that somebody else replaces by rename (base/file.h): told at each change, by inotify(7) on its
 * folder. A folder that is not there yet is looked for again. */
#pragma once

#include <systemd/sd-event.h>

struct filewatch; /* opaque */

int filewatch_new(sd_event *event, const char *path, void (*on_change)(void *userdata), void *userdata,
        struct filewatch **ret);
struct filewatch *filewatch_free(struct filewatch *w);
void filewatch_look(struct filewatch *w); /* the folder may be there now */
