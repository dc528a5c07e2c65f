/* Randomness of the kernel (getrandom(2)). */
#pragma once

#include <stddef.h>
#include <stdint.h>

void random_bytes(void *ret, size_t length);
uint64_t random_below(uint64_t bound); /* uniform in [0, bound); 0 for 0 */
/* "n-4kq8x…": prefix, hyphen, 16 characters of Crockford's base 32 in lower case (80 bits). */
#define RANDOM_ID_TEXT 32
void random_id(const char *prefix, char ret[RANDOM_ID_TEXT]);
/* A secret of 32 bytes as 43 characters of base64url (RFC 4648 section 5) after `prefix` ("gnt_"). */
#define RANDOM_SECRET_TEXT 64
void random_secret(const char *prefix, char ret[RANDOM_SECRET_TEXT]);
