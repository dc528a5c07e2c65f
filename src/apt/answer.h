/* What apt is told of a transfer. Pure: results of the engine in, messages out. No message ever has a hash:
 * apt computes those that it compares itself. */
#pragma once

#include "base/text.h"
#include "net/transfer.h"

/* "HttpError404", "ConnectionRefused" …, the names that apt knows and decides by; "" where none fits. */
#define APT_REASON_BYTES 32
void answer_reason(const struct transfer_failure *f, char ret[APT_REASON_BYTES]);

/* 200 URI Start. */
void answer_start(struct text *to, const char *uri, const struct transfer_view *v);
/* 201 URI Done, of a file that came and of one that is still right (If-Modified-Since). */
void answer_done(struct text *to, const char *uri, const char *filename, const struct transfer_view *v,
        int64_t last_modified_unix);
void answer_unchanged(struct text *to, const char *uri, const char *filename, int64_t last_modified_unix);
/* 400 URI Failure. `message` in place of the failure's own text; NULL: that. */
void answer_failure(struct text *to, const char *uri, const struct transfer_failure *f, const char *message);
