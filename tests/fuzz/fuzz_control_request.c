/* A line of the control socket. */
#include "fuzz.h"

#include "node/control.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct control_request r = {.operation = (enum control_operation)99};
        struct error e = {0};

        if (control_request_parse((const char *)data, size, &r, &e) < 0) {
                if (r.operation != (enum control_operation)99 || !e.text[0])
                        abort();
                return 0;
        }
        if (r.operation == CONTROL_UPDATE) {
                /* What is asked for must be what root's side takes, once it has an id. */
                struct update_job job;
                json_t *j;

                strcpy(r.job.id, "u-1");
                if (!r.job.channel[0])
                        strcpy(r.job.channel, "stable");
                j = update_job_to_json(&r.job);
                if (update_job_from_json(j, &job, &e) < 0)
                        abort();
                json_decref(j);
        }
        if (r.id[0] && !wire_id_is_valid(r.id))
                abort();
        if (r.operation > CONTROL_UPDATE_HISTORY || r.count < 0 || r.count > 1000 || r.budget_s < 0 ||
                r.budget_s > 600)
                abort();
        return 0;
}
