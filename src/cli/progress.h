/* How far a transfer is, for people and for programs: a bar with rate, time and way on a terminal (standard
 * error), a JSON object a line on standard output where --json asks for it, nothing otherwise. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct progress {
        const char *name;        /* what is moved */
        const char *state;       /* "waiting", "connecting", "moving" … */
        uint64_t bytes, size;    /* size 0: not known */
        double bytes_per_second; /* 0: not known */
        double remaining_ms;     /* < 0: not known */
        uint16_t way;            /* port; 0: none yet */
        const char *waits_for;   /* NULL: for nothing */
        double next_attempt_ms;  /* < 0: none */
};
/* Draws it; on a terminal it replaces the one before. */
void progress_show(const struct progress *p, bool json);
/* "1.5 MB", "600 kB": powers of 1000; ret holds 32 bytes. */
const char *progress_bytes(uint64_t bytes, char ret[32]);
/* "2 min 10 s"; ret holds 32 bytes. */
const char *progress_time(double ms, char ret[32]);
