#include "plane/broker_sent.h"

#include "base/alloc.h"
#include "base/text.h"

#include <stdlib.h>

struct broker_sent *broker_sent_take(struct broker_sent **list, int message_id)
{
        struct broker_sent *s;

        HASH_FIND_INT(*list, &message_id, s);
        if (s)
                HASH_DEL(*list, s);
        return s;
}

void broker_sent_add(struct broker_sent **list, int message_id, const char *node, const char *request)
{
        struct broker_sent *s = xcalloc(1, sizeof *s);

        free(broker_sent_take(list, message_id));
        s->message_id = message_id;
        str_copy(s->node, sizeof s->node, node);
        str_copy(s->request, sizeof s->request, request);
        HASH_ADD_INT(*list, message_id, s);
}

void broker_sent_clear(struct broker_sent **list)
{
        struct broker_sent *s, *next;

        HASH_ITER(hh, *list, s, next)
        {
                HASH_DEL(*list, s);
                free(s);
        }
}
