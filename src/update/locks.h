/* Who has dpkg's and apt's locks (fcntl(2), apt's FileFd.cc GetLock). */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* "process 812 (unattended-upgr)"; false: nobody. */
bool locks_holder(char *ret, size_t size);
