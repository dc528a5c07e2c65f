#include "probe/dns_message.h"

#include "base/alloc.h"

#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define HEADER_BYTES 12
#define CLASS_IN     1
#define TYPE_CNAME   5
#define MAX_CHAIN    16 /* CNAMEs that are followed; resolvers stop at about as many */

/* RFC 1035 4.1.1, the second pair of bytes. */
#define FLAG_RESPONSE            0x8000
#define FLAG_OPCODE              0x7800
#define FLAG_AUTHORITATIVE       0x0400
#define FLAG_TRUNCATED           0x0200
#define FLAG_RECURSION_AVAILABLE 0x0080
#define FLAG_RCODE               0x000f

struct message {
        const uint8_t *bytes;
        size_t length;
        unsigned question_count, answer_count;
        size_t answers_at; /* offset of the first answer */
};

struct record {
        char *name; /* c-ares', freed by ares_free_string */
        uint16_t type, class;
        uint32_t ttl_s;
        size_t data_at, data_length;
};

static uint16_t read_u16(const uint8_t *p)
{
        return (uint16_t)(p[0] << 8 | p[1]);
}

static uint32_t read_u32(const uint8_t *p)
{
        return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

/* ---- out ---- */

int dns_message_build(const struct dns_question *q, uint8_t ret[DNS_MESSAGE_MAX_QUESTION], size_t *ret_length)
{
        unsigned char *bytes = NULL;
        int length = 0;
        int r = ares_create_query(q->name, CLASS_IN, q->type, q->id, 1, &bytes, &length, q->edns_bytes);

        if (r == ARES_SUCCESS && length > 0 && length <= DNS_MESSAGE_MAX_QUESTION) {
                memcpy(ret, bytes, (size_t)length);
                *ret_length = (size_t)length;
                r = 0;
        } else {
                r = -EINVAL;
        }
        ares_free_string(bytes);
        return r;
}

/* ---- in ---- */

void dns_answer_done(struct dns_answer *a)
{
        strv_done(&a->addresses);
        free(a->canonical_name);
        *a = (struct dns_answer){0};
}

/* Names compare without case and without a trailing dot; the root is "". */
static bool names_equal(const char *a, const char *b)
{
        size_t la = strlen(a), lb = strlen(b);

        la -= la > 0 && a[la - 1] == '.';
        lb -= lb > 0 && b[lb - 1] == '.';
        return la == lb && strncasecmp(a, b, la) == 0;
}

/* A name at `at`; gives the offset behind it. 0 or -EBADMSG. */
static int read_name(const struct message *m, size_t at, char **ret, size_t *ret_end)
{
        char *name = NULL;
        long encoded = 0;

        if (at >= m->length ||
                ares_expand_name(m->bytes + at, m->bytes, (int)m->length, &name, &encoded) != ARES_SUCCESS)
                return -EBADMSG;
        *ret = name;
        *ret_end = at + (size_t)encoded;
        return 0;
}

/* The record at `at`; *ret_end is the offset behind it. */
static int read_record(const struct message *m, size_t at, struct record *ret, size_t *ret_end)
{
        struct record r = {0};
        const uint8_t *fixed;
        size_t end;

        if (read_name(m, at, &r.name, &end) < 0)
                return -EBADMSG;
        if (end + 10 > m->length) {
                ares_free_string(r.name);
                return -EBADMSG;
        }
        fixed = m->bytes + end;
        r.type = read_u16(fixed);
        r.class = read_u16(fixed + 2);
        r.ttl_s = read_u32(fixed + 4);
        r.data_length = read_u16(fixed + 8);
        r.data_at = end + 10;
        if (r.data_at + r.data_length > m->length) {
                ares_free_string(r.name);
                return -EBADMSG;
        }
        *ret = r;
        *ret_end = r.data_at + r.data_length;
        return 0;
}

/* What to do with each record of the answer section; 0 to go on, else the walk ends with it. */
typedef int (*on_record)(const struct message *m, const struct record *r, void *userdata);

static int walk_answers(const struct message *m, on_record callback, void *userdata)
{
        size_t at = m->answers_at;
        int r = 0;

        for (unsigned i = 0; i < m->answer_count && r == 0; i++) {
                struct record record;

                r = read_record(m, at, &record, &at);
                if (r < 0)
                        return r;
                r = callback(m, &record, userdata);
                ares_free_string(record.name);
        }
        return r;
}

static int count_record(const struct message *m, const struct record *r, void *userdata)
{
        (void)m;
        (void)r;
        (*(unsigned *)userdata)++;
        return 0;
}

struct chain {
        char *name; /* where the chain has come to */
        uint16_t type;
        uint32_t ttl_s;
        bool any_ttl;
        struct inet_addr *addresses;
        size_t address_count, record_count;
};

static void take_ttl(struct chain *c, uint32_t ttl_s)
{
        if (!c->any_ttl || ttl_s < c->ttl_s)
                c->ttl_s = ttl_s;
        c->any_ttl = true;
}

/* 1: the name has a CNAME, and the chain went on; -EBADMSG. */
static int follow_cname(const struct message *m, const struct record *r, void *userdata)
{
        struct chain *c = userdata;
        char *target;
        size_t end;

        if (r->type != TYPE_CNAME || r->class != CLASS_IN || !names_equal(r->name, c->name))
                return 0;
        if (read_name(m, r->data_at, &target, &end) < 0)
                return -EBADMSG;
        if (end != r->data_at + r->data_length) {
                ares_free_string(target);
                return -EBADMSG;
        }
        take_ttl(c, r->ttl_s);
        free(c->name);
        c->name = xstrdup(target);
        ares_free_string(target);
        return 1;
}

static int take_address(const struct message *m, const struct record *r, void *userdata)
{
        struct chain *c = userdata;
        size_t due = r->type == DNS_TYPE_A ? 4 : 16;
        struct inet_addr *a;

        if (r->type != c->type || r->class != CLASS_IN || !names_equal(r->name, c->name))
                return 0;
        if (r->type != DNS_TYPE_A && r->type != DNS_TYPE_AAAA) {
                c->record_count++;
                take_ttl(c, r->ttl_s);
                return 0;
        }
        if (r->data_length != due)
                return -EBADMSG;
        c->record_count++;
        take_ttl(c, r->ttl_s);
        if (c->address_count == DNS_MESSAGE_MAX_ADDRESSES)
                return 0;
        if (c->address_count % 16 == 0)
                c->addresses = xrealloc_array(c->addresses, c->address_count + 16, sizeof *c->addresses);
        a = &c->addresses[c->address_count++];
        *a = (struct inet_addr){.family = due == 4 ? AF_INET : AF_INET6};
        memcpy(a->bytes, m->bytes + r->data_at, due);
        return 0;
}

static int compare_addresses(const void *a, const void *b)
{
        return inet_addr_compare(a, b);
}

static void give_addresses(struct chain *c, struct strv *ret)
{
        char text[INET_ADDR_TEXT];

        if (c->address_count)
                qsort(c->addresses, c->address_count, sizeof *c->addresses, compare_addresses);
        for (size_t i = 0; i < c->address_count; i++)
                if (i == 0 || !inet_addr_equal(&c->addresses[i - 1], &c->addresses[i]))
                        strv_add(ret, inet_addr_format(&c->addresses[i], text));
}

static int read_answers(struct message *m, const struct dns_question *q, struct dns_answer *answer)
{
        struct chain c = {.name = xstrdup(q->name), .type = q->type};
        unsigned whole = 0;
        int r = walk_answers(m, count_record, &whole);

        if (r < 0 && answer->truncated) {
                m->answer_count = whole;
                r = 0;
        }
        for (int i = 0; r == 0 && i < MAX_CHAIN; i++) {
                r = walk_answers(m, follow_cname, &c);
                if (r == 0)
                        break;
                r = r > 0 ? 0 : r;
        }
        if (r == 0)
                r = walk_answers(m, take_address, &c);
        if (r == 0) {
                give_addresses(&c, &answer->addresses);
                answer->record_count = c.record_count;
                answer->ttl_s = c.ttl_s;
                if (!names_equal(c.name, q->name)) {
                        answer->canonical_name = c.name;
                        c.name = NULL;
                }
        }
        free(c.addresses);
        free(c.name);
        return r;
}

/* Compares the question section with what was asked; finds where the answers begin. */
static int check_question(struct message *m, const struct dns_question *q, int rcode)
{
        char *name;
        size_t end;
        bool same;

        m->answers_at = HEADER_BYTES;
        if (m->question_count == 0)
                return rcode != 0 ? 0 : -EBADMSG;
        if (m->question_count != 1 || read_name(m, HEADER_BYTES, &name, &end) < 0)
                return -EBADMSG;
        if (end + 4 > m->length) {
                ares_free_string(name);
                return -EBADMSG;
        }
        same = names_equal(name, q->name) && read_u16(m->bytes + end) == q->type &&
               read_u16(m->bytes + end + 2) == CLASS_IN;
        ares_free_string(name);
        m->answers_at = end + 4;
        return same ? 0 : -ENOMSG;
}

int dns_message_parse(
        const uint8_t *bytes, size_t length, const struct dns_question *q, struct dns_answer *ret)
{
        struct message m = {.bytes = bytes, .length = length};
        struct dns_answer answer = {0};
        uint16_t flags;
        int r;

        if (length < HEADER_BYTES || length > UINT16_MAX)
                return -EBADMSG;
        flags = read_u16(bytes + 2);
        if (!(flags & FLAG_RESPONSE) || flags & FLAG_OPCODE)
                return -EBADMSG;
        if (read_u16(bytes) != q->id)
                return -ENOMSG;
        answer.rcode = flags & FLAG_RCODE;
        answer.truncated = flags & FLAG_TRUNCATED;
        answer.authoritative = flags & FLAG_AUTHORITATIVE;
        answer.recursion_available = flags & FLAG_RECURSION_AVAILABLE;
        m.question_count = read_u16(bytes + 4);
        m.answer_count = read_u16(bytes + 6);
        r = check_question(&m, q, answer.rcode);
        if (r == 0)
                r = read_answers(&m, q, &answer);
        if (r < 0) {
                dns_answer_done(&answer);
                return r;
        }
        *ret = answer;
        return 0;
}
