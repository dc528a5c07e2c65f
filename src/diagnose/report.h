/* A report: the run's frame, its measurements, its conclusion; and its faces: JSON, text, firewall page. */
#pragma once

#include "base/error.h"
#include "diagnose/conclusion.h"
#include "probe/measurement.h"

#include <jansson.h>
#include <stdio.h>

struct report {
        char *node, *profile; /* profile "" when none was given */
        int64_t started_unix_ms;
        double elapsed_ms;
        char source_interface[IFNAMSIZ];
        char source_address[INET_ADDR_TEXT];
        bool interrupted; /* ended by a signal */
        struct measurement_list measurements;
        struct conclusion conclusion;
};
void report_done(struct report *r);

/* As in the contract; new reference. */
json_t *report_to_json(const struct report *r);
/* Reads a stored report: its frame and measurements, not its conclusions; then concludes anew.
 * Bounds: 64 MiB, 100,000 measurements. 0 or -EINVAL/-EBADMSG naming the member. */
int report_from_json_text(const char *data, size_t length, struct report *ret, struct error *ret_error);

struct report_style {
        bool colour;  /* ANSI; a terminal and no NO_COLOR */
        bool utf8;    /* box and arrow characters; else ASCII */
        bool verbose; /* every measurement */
        int width;    /* columns, 0: 80 */
};
void report_write_text(const struct report *r, const struct report_style *style, FILE *to);

enum page_format { PAGE_MARKDOWN, PAGE_HTML };
/* One page for the firewall's owner: what to allow, from which address to which ranges and ports, what was
 * observed, UTC times, 5-tuples, the refusing device. Self-contained; no secrets, no private certificates.
 * Caller frees. */
char *report_firewall_page(const struct report *r, enum page_format format);
