/* What the files of the method share; nobody else includes it. method.c: apt's messages and the options;
 * method_item.c: one requested file; method_post.c: what `gridnode status` shows of it. */
#pragma once

#include "apt/cause.h"
#include "apt/method.h"
#include "apt/protocol.h"
#include "base/text.h"
#include "net/transfer_post.h"
#include "node/transfers.h"

#define METHOD_SERVICE      "repo"
#define METHOD_DEADLINE_MS  30000.0 /* without a way; Acquire::gridnode::Deadline */
#define METHOD_MINIMUM_RATE 512     /* bytes per second; Acquire::gridnode::Minimum-Rate */

struct item { /* one 600 that was not answered to its end yet */
        struct item *next;
        struct method *method;
        char *uri, *filename;
        int64_t modified_since_unix;
        struct transfer *transfer; /* NULL: it failed, and the cause is being looked for */
        struct transfer_failure failure;
        bool is_started; /* 200 was said */
};

struct method {
        sd_event *event;
        struct node_settings settings;
        struct node_transfers *transfers; /* NULL: `broken` says why */
        struct error broken;
        struct transfer_post *post;
        struct cause *cause;
        struct text input;
        struct item *items;
        size_t item_count;
        sd_event_source *io, *room, *posting;
        char *status; /* the last 102 */
        double deadline_ms;
        uint64_t minimum_bytes_per_second;
        enum budget_class priority;
        int way_fd;      /* of method_note_way(); -1: nobody asks */
        uint16_t way;    /* noted there last */
        bool has_no_way; /* the last file failed for lack of one, and nothing came since */
        bool is_over;
};

void method_say(struct method *m, struct text *message); /* emptied */
void method_tell_status(struct method *m, const char *uri, const char *message);
void method_end(struct method *m, int status);
void method_made_room(struct method *m); /* an item went */

int method_acquire(struct method *m, const struct apt_message *message, struct error *ret_error);
struct item *method_item_free(struct item *i);
void method_on_cause(const char *text, void *userdata); /* of cause.h */

void method_post_soon(struct method *m); /* items came, went or moved */
