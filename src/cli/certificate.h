/* One certificate of a presented chain, for reading. */
#pragma once

#include <stdint.h>

struct certificate_facts {
        int64_t not_before_unix, not_after_unix;
        char sha256[65]; /* fingerprint, hex */
};
/* 0, or -EBADMSG when the PEM does not parse. */
int certificate_read(const char *pem, struct certificate_facts *ret);
