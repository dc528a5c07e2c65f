/* The rows behind cause_info() and cause_find(), in the order of CAUSE_CODES. */
#pragma once

#include "diagnose/cause.h"

extern const struct cause_info cause_table[CAUSE_COUNT];
