/* /usr/lib/apt/methods/gridnode: what apt starts for gridnode:// addresses. As root it opens what needs
 * rights and becomes _apt, for good, before it reads a byte of what others may have written. */
#include "apt/method.h"
#include "base/loop.h"
#include "base/privileges.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sysexits.h>
#include <unistd.h>

/* What cannot be tried back is gone. */
static int give_up_rights(struct error *ret_error)
{
        bool was_root = geteuid() == 0;
        int r = privileges_drop(METHOD_USER, NULL, 0, ret_error);

        if (r == 0 && was_root &&
                (setresuid(0, 0, 0) == 0 || geteuid() == 0 || getuid() == 0 || getegid() == 0))
                return error_set(ret_error, EPERM, "user.become",
                        "the rights of root are still there as '%s'", METHOD_USER);
        return r;
}

static int run(sd_event *event, struct method *m)
{
        struct error e = {0};
        int r = give_up_rights(&e);

        if (r < 0) {
                method_give_up(m, e.text);
                return METHOD_STATUS_FAILED;
        }
        r = method_start(m);
        return r < 0 ? METHOD_STATUS_FAILED : sd_event_loop(event);
}

int main(int argc, char **argv)
{
        /* Whoever may set root's environment has root's rights; apt is no setuid program. */
        const char *root = secure_getenv("GRIDNODE_ROOT");
        const char *way = secure_getenv("GRIDNODE_WAY_FILE");
        struct method *m;
        sd_event *event;
        int status;

        (void)argv;
        if (argc > 1) {
                fputs("This is apt's method for gridnode:// addresses; apt starts it. See gridnode-apt(5).\n",
                        stderr);
                return EX_USAGE;
        }
        signal(SIGPIPE, SIG_IGN);
        if (loop_new(&event, NULL) < 0)
                return METHOD_STATUS_FAILED;
        m = method_new(event, root && *root ? root : NULL);
        if (way && *way)
                method_note_way(m, way);
        status = run(event, m);
        method_free(m);
        sd_event_unref(event);
        return status < 0 ? METHOD_STATUS_FAILED : status;
}
