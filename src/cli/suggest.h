/* The nearest word, for a misspelt one. */
#pragma once

#include <stddef.h>

/* NULL when none of the words is near enough to be meant. */
const char *suggest_nearest(const char *word, const char *const *words, size_t count);
