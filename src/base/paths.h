/* Where a program's files are. One root moves all of them, so that tests and demos need no system folders. */
#pragma once

struct paths {
        char *etc;   /* ROOT/etc/PROGRAM */
        char *state; /* ROOT/var/lib/PROGRAM */
        char *run;   /* ROOT/run/PROGRAM */
};
/* `root` NULL or "/" for the system's. A relative root is made absolute. */
void paths_init(struct paths *p, const char *root, const char *program);
void paths_done(struct paths *p);
/* FOLDER/NAME; the caller's. */
char *path_join(const char *folder, const char *name);
/* A program of ours: at `beside` ("gridnode-daemon", "../helper/gridnode-helper") from the folder of the
 * running program, as in a build folder; where there is none, `installed`. The caller's. */
char *path_of_program(const char *beside, const char *installed);
