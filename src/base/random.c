#include "base/random.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

void random_bytes(void *ret, size_t length)
{
        char *at = ret;

        while (length > 0) {
                ssize_t n = getrandom(at, length, 0);

                if (n < 0 && errno == EINTR)
                        continue;
                /* Nothing that is to be secret may be made without it. */
                if (n <= 0) {
                        fprintf(stderr, "the kernel gives no random bytes: %s\n", strerror(errno));
                        abort();
                }
                at += n;
                length -= (size_t)n;
        }
}

uint64_t random_below(uint64_t bound)
{
        uint64_t value, uneven;

        if (bound == 0)
                return 0;
        /* The first 2^64 mod bound values would make the small results likelier. */
        uneven = -bound % bound;
        do
                random_bytes(&value, sizeof value);
        while (value < uneven);
        return value % bound;
}

void random_id(const char *prefix, char ret[RANDOM_ID_TEXT])
{
        static const char digits[] = "0123456789abcdefghjkmnpqrstvwxyz"; /* without i, l, o, u */
        uint8_t bytes[16];
        char text[sizeof bytes + 1];

        random_bytes(bytes, sizeof bytes);
        for (size_t i = 0; i < sizeof bytes; i++)
                text[i] = digits[bytes[i] & 31];
        text[sizeof bytes] = '\0';
        snprintf(ret, RANDOM_ID_TEXT, "%.*s-%s", (int)(RANDOM_ID_TEXT - sizeof text - 1), prefix, text);
}

void random_secret(const char *prefix, char ret[RANDOM_SECRET_TEXT])
{
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        uint8_t bytes[33]; /* the last one is zero: 43 characters hold 258 bits */
        char text[44];

        random_bytes(bytes, 32);
        bytes[32] = 0;
        for (size_t i = 0; i < 43; i++) {
                size_t bit = i * 6;
                unsigned two = (unsigned)bytes[bit / 8] << 8 |
                               (bit / 8 + 1 < sizeof bytes ? bytes[bit / 8 + 1] : 0U);

                text[i] = digits[two >> (10 - bit % 8) & 63];
        }
        text[43] = '\0';
        snprintf(ret, RANDOM_SECRET_TEXT, "%.*s%s", (int)(RANDOM_SECRET_TEXT - sizeof text), prefix, text);
        explicit_bzero(bytes, sizeof bytes);
        explicit_bzero(text, sizeof text);
}
