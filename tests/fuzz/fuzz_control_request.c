/* A line of the control socket. */
#include "fuzz.h"

#include "node/control.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct control_request r = {.operation = (enum control_operation)99};
        struct error e = {0};

        if (control_request_parse((const char *)data, size, &r, &e) < 0) {
                if (r.operation != (enum control_operation)99 || !e.text[0])
                        abort();
                return 0;
        }
        if (r.operation > CONTROL_DIAG || r.count < 0 || r.count > 1000 || r.budget_s < 0 || r.budget_s > 600)
                abort();
        return 0;
}
