#include "plane/api_credentials.h"

#include "base/cleanup.h"
#include "base/text.h"

#include <errno.h>
#include <sodium.h>
#include <string.h>
#include <strings.h>

/* What a token, a secret or a cookie's value of ours may consist of. */
static bool is_token(const char *s, size_t length)
{
        for (size_t i = 0; i < length; i++)
                if (s[i] <= ' ' || s[i] >= 0x7f || strchr("\",;\\", s[i]))
                        return false;
        return length > 0 && length < CREDENTIAL_MAXIMUM;
}

static void keep(char ret[CREDENTIAL_MAXIMUM], const char *s, size_t length)
{
        memcpy(ret, s, length);
        ret[length] = '\0';
}

int credentials_cookie(const char *header, const char *name, char ret[CREDENTIAL_MAXIMUM])
{
        size_t name_length = strlen(name);
        char found[CREDENTIAL_MAXIMUM] = "";

        while (*header) {
                size_t length;

                header += strspn(header, "; \t");
                length = strcspn(header, ";");
                if (strncmp(header, name, name_length) == 0 && header[name_length] == '=') {
                        const char *value = header + name_length + 1;
                        size_t value_length = length - name_length - 1;

                        while (value_length > 0 && strchr(" \t", value[value_length - 1]))
                                value_length--;
                        if (!is_token(value, value_length))
                                return -EINVAL;
                        if (found[0] &&
                                (strlen(found) != value_length || memcmp(found, value, value_length) != 0))
                                return -EINVAL;
                        keep(found, value, value_length);
                }
                header += length;
        }
        if (!found[0])
                return -ENOENT;
        str_copy(ret, CREDENTIAL_MAXIMUM, found);
        return 0;
}

/* What follows the scheme; NULL for another scheme. */
static const char *after_scheme(const char *header, const char *scheme)
{
        size_t length = strlen(scheme);

        if (strncasecmp(header, scheme, length) != 0 || header[length] != ' ')
                return NULL;
        return header + length + strspn(header + length, " ");
}

int credentials_bearer(const char *header, char ret[CREDENTIAL_MAXIMUM])
{
        const char *secret = after_scheme(header, "Bearer");

        if (!secret)
                return -ENOENT;
        if (!is_token(secret, strlen(secret)))
                return -EINVAL;
        keep(ret, secret, strlen(secret));
        return 0;
}

int credentials_basic(
        const char *header, char ret_name[CREDENTIAL_MAXIMUM], char ret_password[PASSWORD_MAXIMUM])
{
        const char *encoded = after_scheme(header, "Basic"), *end = NULL;
        char both[CREDENTIAL_MAXIMUM + PASSWORD_MAXIMUM], *colon;
        size_t length = 0;
        int r = -EINVAL;

        if (!encoded)
                return -ENOENT;
        if (sodium_base642bin((unsigned char *)both, sizeof both - 1, encoded, strlen(encoded), NULL, &length,
                    &end, sodium_base64_VARIANT_ORIGINAL) == 0 &&
                *end == '\0' && !memchr(both, '\0', length)) {
                both[length] = '\0';
                colon = strchr(both, ':');
                if (colon && colon > both && colon - both < CREDENTIAL_MAXIMUM &&
                        strlen(colon + 1) < PASSWORD_MAXIMUM) {
                        keep(ret_name, both, (size_t)(colon - both));
                        str_copy(ret_password, PASSWORD_MAXIMUM, colon + 1);
                        r = 0;
                }
        }
        explicit_bzero(both, sizeof both);
        return r;
}

int credentials_forwarded(const char *header, struct inet_addr *ret)
{
        const char *last = strrchr(header, ',');
        char text[INET_ADDR_TEXT];
        struct inet_addr a;
        size_t length;

        last = last ? last + 1 : header;
        last += strspn(last, " \t");
        length = strcspn(last, " \t");
        if (length >= sizeof text || last[length + strspn(last + length, " \t")])
                return -EINVAL;
        memcpy(text, last, length);
        text[length] = '\0';
        if (inet_addr_parse(text, &a) < 0)
                return -EINVAL;
        if (a.family == AF_INET6)
                memset(a.bytes + 8, 0, 8);
        *ret = a;
        return 0;
}
