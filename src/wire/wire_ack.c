#include "wire/wire_internal.h"

#include "base/cleanup.h"

static json_t *numbers(const int64_t *seqs, size_t count)
{
        json_t *array = json_array();

        for (size_t i = 0; i < count; i++)
                json_array_append_new(array, json_integer(seqs[i]));
        return array;
}

json_t *wire_ack_to_json(const struct wire_ack *a)
{
        json_t *j = wire_new();

        json_object_set_new(j, "epoch", wire_text(a->epoch));
        json_object_set_new(j, "stored", numbers(a->seqs, a->count));
        if (a->refused_count > 0) {
                json_object_set_new(j, "refused", numbers(a->refused, a->refused_count));
                wire_set_text(j, "reason", a->reason);
        }
        return j;
}

static size_t read_numbers(struct json_reader *r, const char *name, int64_t ret[WIRE_ACK_MAXIMUM])
{
        json_t *array = json_take_optional_array(r, name, WIRE_ACK_MAXIMUM), *item;
        size_t i;

        json_array_foreach(array, i, item)
        {
                ret[i] = json_integer_value(item);
                if (ret[i] < 1)
                        json_reader_fail(r, name, "item %zu is not a number from 1", i);
        }
        return json_array_size(array);
}

int wire_ack_parse(const void *data, size_t length, struct wire_ack *ret, struct error *ret_error)
{
        json_auto_t *object = NULL;
        struct json_reader reader;
        struct wire_ack a = {0};
        int r = wire_read(data, length, WIRE_EVENT_MAXIMUM, "acknowledgement", &object, &reader, ret_error);

        if (r < 0)
                return r;
        wire_read_id(&reader, "epoch", a.epoch);
        a.count = read_numbers(&reader, "stored", a.seqs);
        a.refused_count = read_numbers(&reader, "refused", a.refused);
        wire_read_short(&reader, "reason", a.reason, sizeof a.reason);
        r = json_reader_done(&reader, false);
        if (r == 0)
                *ret = a;
        return r;
}
