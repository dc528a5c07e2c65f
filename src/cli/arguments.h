/* Arguments of the hand tools. */
#pragma once

#include "cli/session.h"

/* 1 to 65535. EXIT_SUCCESS, or EX_USAGE after its message. */
int arguments_port(const struct session *s, const char *text, uint16_t *ret);
