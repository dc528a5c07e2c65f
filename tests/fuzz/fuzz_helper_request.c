#include "fuzz.h"

#include "base/json.h"
#include "helper/protocol.h"

#include <stdlib.h>
#include <string.h>

/* A request that is right is written and read again, and is the same. */
static void repeat(const struct helper_request *r)
{
        struct helper_request again;
        json_t *object = helper_request_to_json(r);
        char *text = json_to_text(object);

        if (helper_request_parse(text, strlen(text), &again, NULL) < 0 ||
                again.network.route_count != r->network.route_count ||
                again.network.address_count != r->network.address_count ||
                again.network.up_count != r->network.up_count || again.operation != r->operation ||
                memcmp(&again.job, &r->job, sizeof r->job) != 0 || strcmp(again.update_id, r->update_id) != 0)
                abort();
        helper_request_done(&again);
        free(text);
        json_decref(object);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct helper_request request;
        struct error answer, error;

        if (helper_request_parse(data, size, &request, &error) == 0) {
                repeat(&request);
                helper_request_done(&request);
        }
        helper_answer_parse(data, size, &answer, &error);
        return 0;
}
