#include "cli/daemon_ask.h"

#include "base/cleanup.h"
#include "base/paths.h"
#include "cli/stop.h"
#include "node/control.h"

#include <errno.h>
#include <stdlib.h>
#include <sysexits.h>

char *daemon_socket(const struct session *s)
{
        struct paths p;
        char *path;

        paths_init(&p, s->settings.root, "gridnode");
        path = path_join(p.run, "control.sock");
        paths_done(&p);
        return path;
}

int daemon_ask(const struct session *s, json_t *request,
        int (*on_line)(const char *member, json_t *value, void *userdata), void *userdata)
{
        _cleanup_free_ char *path = daemon_socket(s);
        struct error e = {0};
        int r = control_ask(path, request, on_line, userdata, stop_watch(), &e);

        json_decref(request);
        if (r >= 0)
                return EXIT_SUCCESS;
        if (r == -EINTR)
                return 128 + stop_signal();
        return session_fail(s,
                r == -ECONNREFUSED || r == -ENOENT ? EX_UNAVAILABLE
                : r == -EACCES || r == -EPERM      ? EX_NOPERM
                                                   : EXIT_FAILURE,
                "%s", e.text);
}
