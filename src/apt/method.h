/* The apt method `gridnode`: apt's requests on standard input, the node's transfer engine, answers on
 * standard output (apt's doc/method.dbk). Several requests are worked at side by side. */
#pragma once

#include "base/error.h"

#include <systemd/sd-event.h>

struct method; /* opaque */

#define METHOD_USER          "_apt"
#define METHOD_STATUS_FAILED 100 /* as apt's own methods end when they cannot go on */

/* Opens all that needs rights: site file and profile, root certificate, the node's certificate and key, the
 * bandwidth budget, the note of what is being transferred. `root` as --root of gridnode; NULL: the system's.
 * Cannot fail: what is missing is the answer to every request. */
struct method *method_new(sd_event *event, const char *root);
struct method *method_free(struct method *m);
/* A file that says from then on by which port of the repository bytes came last: "443\n". For who runs apt;
 * to be called while there are rights to. Where it cannot be made, nothing is noted. */
void method_note_way(struct method *m, const char *path);
/* Says what the method can do, and reads from then on. The loop ends with 0 when apt closes its end, with
 * METHOD_STATUS_FAILED when apt cannot be understood or spoken to. 0 or -errno. */
int method_start(struct method *m);
/* 401 General Failure: there is nothing to be done here. */
void method_give_up(struct method *m, const char *message);
