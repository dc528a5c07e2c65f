#include "fuzz.h"

#include "diagnose/report.h"

#include <stdio.h>
#include <stdlib.h>

/* A stored report, and everything that is written from it. */
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
        struct report_style style = {.utf8 = true, .colour = true, .verbose = true, .width = 60};
        struct report r;
        struct error error;
        char *text = NULL;
        size_t length = 0;
        FILE *to;

        if (report_from_json_text((const char *)data, size, &r, &error) < 0)
                return 0;
        to = open_memstream(&text, &length);
        if (to) {
                report_write_text(&r, &style, to);
                fclose(to);
                free(text);
        }
        free(report_firewall_page(&r, PAGE_MARKDOWN));
        free(report_firewall_page(&r, PAGE_HTML));
        json_decref(report_to_json(&r));
        report_done(&r);
        return 0;
}
