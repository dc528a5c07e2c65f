/* Prints every report of reports.c as JSON, one a line, for validate_schema.py. */
#include "reports.h"

#include <stdlib.h>

int main(void)
{
        static void (*const all[])(struct report *) = {report_healthy, report_dropped, report_rejected,
                report_captured, report_intercepted, report_service_down, report_undetermined, report_mixed,
                report_many, report_hostile};

        for (size_t i = 0; i < sizeof all / sizeof all[0]; i++) {
                struct report r;
                json_t *j;

                all[i](&r);
                j = report_to_json(&r);
                json_dumpf(j, stdout, JSON_COMPACT);
                putchar('\n');
                json_decref(j);
                report_done(&r);
        }
        return 0;
}
