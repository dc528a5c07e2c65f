#include "fuzz.h"

#include "probe/dns_message.h"

#include <stdlib.h>
#include <string.h>

/* The first byte chooses the type; the rest is the message. The id is taken from the message itself, or
 * hardly any input would come further than its first two bytes. With the highest bit set the rest is a name
 * to ask for. */
static void parse(uint8_t choice, const uint8_t *data, size_t size)
{
        static const uint16_t types[] = {DNS_TYPE_A, DNS_TYPE_AAAA, DNS_TYPE_NS};
        struct dns_question q = {.name = choice & 4 ? "." : "repo.grid.example", .type = types[choice % 3]};
        struct dns_answer answer;

        if (size >= 2)
                q.id = (uint16_t)(data[0] << 8 | data[1]);
        if (dns_message_parse(data, size, &q, &answer) != 0)
                return;
        if (answer.addresses.count > DNS_MESSAGE_MAX_ADDRESSES ||
                answer.addresses.count > answer.record_count)
                abort();
        dns_answer_done(&answer);
}

static void build(const uint8_t *data, size_t size)
{
        uint8_t message[DNS_MESSAGE_MAX_QUESTION];
        struct dns_question q = {.type = DNS_TYPE_A, .id = 7, .edns_bytes = 1232};
        struct dns_answer answer;
        size_t length;
        char *name = strndup((const char *)data, size);

        q.name = name;
        if (name && dns_message_build(&q, message, &length) == 0) {
                /* What we ask is no answer. */
                if (dns_message_parse(message, length, &q, &answer) == 0)
                        abort();
        }
        free(name);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        if (size == 0)
                return 0;
        if (data[0] & 0x80)
                build(data + 1, size - 1);
        else
                parse(data[0], data + 1, size - 1);
        return 0;
}
