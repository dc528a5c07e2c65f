/* How the update stands, on disk: each step is in UPDATE/state.json before it is begun and after it has
 * ended, so that whoever comes after a kill or a power cut knows where to go on; and UPDATE/log/ID.log in
 * words. Updater and judge write it in turn, never at the same time. */
#pragma once

#include "helper/update_place.h"

#define UPDATE_LOG_BYTES ((size_t)30 << 10) /* of the log's end, in the state of an update that failed */

struct journal {
        struct update_place place;
        struct update_state state;
        int log_fd;       /* append; -1: not opened */
        int save_failure; /* 0, or the errno with which state.json could not be saved last */
};
/* Loads the job and its state, or begins it. -ENOENT: no update is under way. */
int journal_open(const char *root, struct journal *ret, struct error *ret_error);
void journal_done(struct journal *j);

/* A line of the log, with the time. */
void journal_log(struct journal *j, const char *format, ...) __attribute__((format(printf, 2, 3)));
void journal_save(struct journal *j);
/* What a step does now, without a line in the log: progress. Saved at most each 500 ms. */
void journal_text(struct journal *j, enum update_step_name step, const char *format, ...)
        __attribute__((format(printf, 3, 4)));

/* A step's state changes in these alone; each saves and logs. Running again after it waited or after a kill
 * keeps the time at which it began. */
void journal_begin(struct journal *j, enum update_step_name step, const char *format, ...)
        __attribute__((format(printf, 3, 4)));
void journal_wait(struct journal *j, enum update_step_name step, const char *code, const char *why);
void journal_end(struct journal *j, enum update_step_name step, enum update_step_state state,
        const char *format, ...) __attribute__((format(printf, 4, 5)));
bool journal_is_over(const struct journal *j, enum update_step_name step); /* done or skipped */

/* The end of the whole. */
void journal_complete(struct journal *j);
/* `what` and what to do, as one sentence; the log's end goes with it. */
void journal_fail(struct journal *j, const char *what);
/* After the end: the history is kept for 30 days; then the job and what belongs to it are taken away, so that
 * nothing is under way any more. To be repeated until it was done. */
int journal_archive(struct journal *j, struct error *ret_error);
