#include "cli/suggest.h"

#include <stdint.h>
#include <string.h>

#define MAX_WORD 64

static size_t smallest(size_t a, size_t b, size_t c)
{
        size_t m = a < b ? a : b;

        return m < c ? m : c;
}

/* Levenshtein's distance, a row at a time. */
static size_t distance(const char *a, const char *b)
{
        size_t row[MAX_WORD + 1], length = strlen(b);

        for (size_t j = 0; j <= length; j++)
                row[j] = j;
        for (size_t i = 0; a[i]; i++) {
                size_t diagonal = row[0];

                row[0] = i + 1;
                for (size_t j = 0; j < length; j++) {
                        size_t above = row[j + 1];

                        row[j + 1] = smallest(above + 1, row[j] + 1, diagonal + (a[i] != b[j]));
                        diagonal = above;
                }
        }
        return row[length];
}

/* A word that continues what was typed ("tcp.drop"), begins it ("diagnose") or ends with it ("dropped") is
 * meant more surely than one that is only spelt alike. */
const char *suggest_nearest(const char *word, const char *const *words, size_t count)
{
        const char *best = NULL;
        size_t length = strlen(word), best_distance = SIZE_MAX;

        if (length == 0 || length > MAX_WORD)
                return NULL;
        for (size_t i = 0; i < count; i++) {
                const char *tail = strchr(words[i], '.');
                size_t d;

                if (strlen(words[i]) > MAX_WORD)
                        continue;
                d = distance(word, words[i]);
                if ((length >= 3 && strncmp(words[i], word, length) == 0) ||
                        (strlen(words[i]) >= 3 && strncmp(words[i], word, strlen(words[i])) == 0))
                        d = d < 2 ? d : 1;
                if (tail && distance(word, tail + 1) < d)
                        d = distance(word, tail + 1) + 1;
                if (d < best_distance) {
                        best_distance = d;
                        best = words[i];
                }
        }
        return best_distance <= length / 3 + 1 ? best : NULL;
}
