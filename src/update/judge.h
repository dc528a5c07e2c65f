/* What is asked of a daemon after its package was replaced: pure. */
#pragma once

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct judge_wants {
        const char *version; /* that it must say of itself */
        bool only_alive;     /* the version that was put back: that it answers is all that is asked */
        /* The channel must be connected since after the install. The clock may be set meanwhile, so the
         * moment is given by the clock of then and by that of now; since after either is enough. */
        int64_t installed_unix_ms, installed_by_now_unix_ms;
};
/* Whether the daemon's status (`gridnode status --json`) is all that; if not, what is missing, in words.
 * `status` NULL: it did not answer. */
bool judge_is_good(const struct judge_wants *w, const json_t *status, char *ret_why, size_t why_size);

/* The judge's journal, UPDATE/judge.json. */
enum judge_phase { JUDGE_BEGUN, JUDGE_WATCHES, JUDGE_RESTORES };
struct judge_note {
        char id[65];
        enum judge_phase phase;
        bool expects_daemon;       /* one ran before the update, or is to */
        int64_t installed_unix_ms; /* JUDGE_WATCHES */
        double installed_boot_ms;  /* CLOCK_BOOTTIME, of that boot */
        char why[512];             /* JUDGE_RESTORES */
};
/* -ENOENT, -EBADMSG. */
int judge_note_parse(const void *data, size_t length, struct judge_note *ret);
json_t *judge_note_to_json(const struct judge_note *n);
