/* gridnode run: becomes the daemon, which is a program of its own, so that it carries nothing of the hand
 * tools. */
#include "cli/commands_gridnode.h"
#include "cli/session.h"

#include "base/cleanup.h"
#include "base/paths.h"

#include <errno.h>
#include <string.h>
#include <sysexits.h>

int cmd_run(struct session *s)
{
        _cleanup_free_ char *path =
                path_of_program("gridnode-daemon", GRIDNODE_LIBEXEC_DIR "/gridnode-daemon");
        char *arguments[6];
        size_t n = 0;

        arguments[n++] = path;
        if (s->settings.root) {
                arguments[n++] = (char *)"--root";
                arguments[n++] = (char *)s->settings.root;
        }
        if (s->settings.config_path) {
                arguments[n++] = (char *)"--config";
                arguments[n++] = (char *)s->settings.config_path;
        }
        arguments[n] = NULL;
        execv(path, arguments);
        return session_fail(s, EX_UNAVAILABLE, "%s: cannot be started: %s; is the package installed whole?",
                path, strerror(errno));
}
