/* The parts of the check among themselves. */
#pragma once

#include "plane/preflight.h"

struct findings {
        struct finding *items;
        size_t count;
};
void finding_add(struct findings *f, bool fatal, const char *code, const char *format, ...)
        __attribute__((format(printf, 4, 5)));

void preflight_ports(const struct plane_settings *s, struct findings *f);
void preflight_programs(const struct plane_settings *s, struct findings *f);
/* The repositories of packages: programs, keys, signatures. Nothing of it keeps serve from working. */
void preflight_packages(const struct plane_settings *s, int64_t now_unix_ms, struct findings *f);
void preflight_certificates(const struct plane_settings *s, int64_t now_unix, struct findings *f);
/* Connects: the outside parts. Last, since it waits for them for some seconds at most. */
void preflight_parts(const struct plane_settings *s, struct findings *f);

/* The version in what a program says of itself: the first "N.N.N" that follows no digit or dot; false: there
 * is none. */
bool preflight_find_version(const char *said, unsigned ret[3]);
