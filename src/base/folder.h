/* Folders that hold state: made when missing, trusted only when nobody else can have put something there. */
#pragma once

#include "base/error.h"

#include <sys/types.h>

/* Makes the folder and its parents; then opens it without following a symlink and checks that it is ours
 * (owned by the effective user or root) and that nobody else may write there. The descriptor is closed again.
 * 0, or -ELOOP (a symlink), -ENOTDIR, -EPERM (owner or mode) with the path and what to do. */
int folder_prepare(const char *path, mode_t mode, struct error *ret_error);
/* Checks one existing file of such a folder before it is opened: a regular file (not a symlink), ours. A
 * missing one is fine. */
int folder_check_file(const char *folder, const char *name, struct error *ret_error);
/* Takes FOLDER/lock for as long as the descriptor is open (flock(2)), and writes our pid into it. The
 * descriptor is the caller's and close-on-exec. -EBUSY names the process that has it. */
int folder_lock(const char *folder, int *ret_fd, struct error *ret_error);
