#include "diagnose/report.h"

#include <stdlib.h>

void report_done(struct report *r)
{
        free(r->node);
        free(r->profile);
        measurement_list_done(&r->measurements);
        conclusion_done(&r->conclusion);
        *r = (struct report){0};
}
