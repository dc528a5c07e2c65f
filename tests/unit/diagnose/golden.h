/* Texts as they shall be: tests/unit/diagnose/golden/NAME. With GOLDEN_UPDATE=1 in the environment they are
 * written anew instead, to be looked at and committed. */
#pragma once

#include "diagnose/report.h"

/* Fails the test where the text differs; the program's version in it stands as VERSION. */
void golden_check(const char *name, const char *text);
/* A file of the source tree, owned by the caller. */
char *golden_source_file(const char *path);
char *golden_report_text(const struct report *r, const struct report_style *style);
