/* Registration and renewal. */
#include "wire/wire_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <string.h>

#define TOKEN_MAX_BYTES       256
#define CSR_MAX_BYTES         8192
#define CERTIFICATE_MAX_BYTES 32768
#define SIGNATURE_MAX_BYTES   1024
#define NAME_MAX_BYTES        253
#define PROFILE_MAX_BYTES     ((size_t)256 << 10)
#define KEYRING_MAX_BYTES     ((size_t)64 << 10)

/* ---- what the node asks ---- */

void wire_enrolment_done(struct wire_enrolment *e)
{
        if (e->token)
                explicit_bzero(e->token, strlen(e->token));
        free(e->token);
        free(e->csr_pem);
        free(e->certificate_pem);
        free(e->signature);
        *e = (struct wire_enrolment){0};
}

json_t *wire_enrolment_to_json(const struct wire_enrolment *e)
{
        json_t *j = wire_new();

        wire_set_text(j, "token", e->token);
        wire_set_text(j, "csr", e->csr_pem);
        wire_set_text(j, "certificate", e->certificate_pem);
        wire_set_text(j, "signature", e->signature);
        return j;
}

int wire_enrolment_parse(
        const void *data, size_t length, bool renew, struct wire_enrolment *ret, struct error *ret_error)
{
        _cleanup_(wire_enrolment_done) struct wire_enrolment e = {0};
        json_auto_t *object = NULL;
        struct json_reader reader;
        int r = wire_read(data, length, WIRE_EVENT_MAXIMUM, renew ? "renewal" : "registration", &object,
                &reader, ret_error);

        if (r < 0)
                return r;
        if (!renew)
                e.token = wire_read_text(&reader, "token", TOKEN_MAX_BYTES);
        e.csr_pem = wire_read_text(&reader, "csr", CSR_MAX_BYTES);
        if (renew) {
                e.certificate_pem = wire_read_text(&reader, "certificate", CERTIFICATE_MAX_BYTES);
                e.signature = wire_read_text(&reader, "signature", SIGNATURE_MAX_BYTES);
        }
        r = json_reader_done(&reader, false);
        if (r < 0)
                return r;
        *ret = e;
        e = (struct wire_enrolment){0};
        return 0;
}

/* ---- what the plane answers ---- */

void wire_identity_done(struct wire_identity *i)
{
        free(i->node);
        free(i->name);
        free(i->organisation);
        free(i->certificate_pem);
        free(i->root_pem);
        free(i->profile);
        free(i->profile_name);
        free(i->apt_keyring);
        *i = (struct wire_identity){0};
}

json_t *wire_identity_to_json(const struct wire_identity *i)
{
        json_t *j = wire_new();

        wire_set_text(j, "node", i->node);
        wire_set_text(j, "name", i->name);
        wire_set_text(j, "organisation", i->organisation);
        wire_set_text(j, "certificate", i->certificate_pem);
        wire_set_text(j, "root", i->root_pem);
        wire_set_text(j, "profile", i->profile);
        wire_set_text(j, "profile_name", i->profile_name);
        if (i->apt_keyring)
                wire_set_text(j, "apt_keyring", i->apt_keyring);
        return j;
}

/* A name that people see, in the node's files and terminals, too. */
static char *read_name(struct json_reader *r, const char *name)
{
        char *s = wire_read_text(r, name, NAME_MAX_BYTES);
        _cleanup_free_ char *shown = s ? str_printable(s, strlen(s), SIZE_MAX) : NULL;

        if (!str_equal(s, shown))
                json_reader_fail(r, name, "has bytes that cannot be shown");
        return s;
}

/* It becomes a file's name. */
static char *read_profile_name(struct json_reader *r)
{
        static const char allowed[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_";
        char *s = wire_read_text(r, "profile_name", WIRE_ID_MAXIMUM);

        if (s && strspn(s, allowed) != strlen(s))
                json_reader_fail(r, "profile_name", "is not of letters, digits, - and _");
        return s;
}

/* RFC 4648 section 4, without line breaks. */
static char *read_keyring(struct json_reader *r)
{
        static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        const char *s = json_take_optional_text(r, "apt_keyring", KEYRING_MAX_BYTES);
        size_t length = s ? strlen(s) : 0, count = s ? strspn(s, digits) : 0;

        if (!s)
                return NULL;
        if (length == 0 || length % 4 || length - count > 2 || strspn(s + count, "=") != length - count)
                json_reader_fail(r, "apt_keyring", "is not base64");
        return xstrdup(s);
}

int wire_identity_parse(const void *data, size_t length, struct wire_identity *ret, struct error *ret_error)
{
        _cleanup_(wire_identity_done) struct wire_identity i = {0};
        char node[WIRE_ID_MAXIMUM + 1];
        json_auto_t *object = NULL;
        struct json_reader reader;
        int r = wire_read(data, length, WIRE_MESSAGE_MAXIMUM, "identity", &object, &reader, ret_error);

        if (r < 0)
                return r;
        wire_read_id(&reader, "node", node);
        i.node = xstrdup(node);
        i.name = read_name(&reader, "name");
        i.organisation = read_name(&reader, "organisation");
        i.certificate_pem = wire_read_text(&reader, "certificate", CERTIFICATE_MAX_BYTES);
        i.root_pem = wire_read_text(&reader, "root", CERTIFICATE_MAX_BYTES);
        i.profile = wire_read_text(&reader, "profile", PROFILE_MAX_BYTES);
        i.profile_name = read_profile_name(&reader);
        i.apt_keyring = read_keyring(&reader);
        r = json_reader_done(&reader, false);
        if (r < 0)
                return r;
        *ret = i;
        i = (struct wire_identity){0};
        return 0;
}
