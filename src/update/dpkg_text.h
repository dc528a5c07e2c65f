/* What dpkg-query prints, line by line (dpkg-query(1)): pure parsers. */
#pragma once

#include <stdbool.h>

/* Of `-W -f ${db:Status-Abbrev}|${binary:Package}|${Version}|${Architecture}\n`. */
#define DPKG_TEXT_FORMAT "${db:Status-Abbrev}|${binary:Package}|${Version}|${Architecture}\\n"
struct dpkg_package {
        char wanted; /* 'i' install, 'h' hold, 'r' remove, 'p' purge, 'u' unknown */
        char state;  /* 'n', 'c', 'H' half-installed, 'U' unpacked, 'F' half-configured, 'W', 't', 'i' */
        bool needs_reinstallation;
        char name[96], version[64], architecture[24];
};
bool dpkg_text_package(const char *line, struct dpkg_package *ret);
bool dpkg_package_is_installed(const struct dpkg_package *p); /* unpacked and configured */
/* Something that was interrupted: `dpkg --configure -a` is its remedy. */
bool dpkg_package_is_broken(const struct dpkg_package *p);
const char *dpkg_state_to_words(char state);
