/* gridnode-daemon: what `gridnode run` becomes. */
#include "base/cleanup.h"
#include "base/log.h"
#include "base/paths.h"
#include "base/text.h"
#include "base/version.h"
#include "helper/protocol.h"
#include "node/daemon.h"

#include <fcntl.h>
#include <getopt.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#define USER "gridnode"

struct arguments {
        const char *root, *config;
};

static int parse(int argc, char **argv, struct arguments *ret)
{
        static const struct option options[] = {{"root", required_argument, NULL, 'R'},
                {"config", required_argument, NULL, 'c'}, {"help", no_argument, NULL, 'h'},
                {"version", no_argument, NULL, 'V'}, {0}};
        int c;

        while ((c = getopt_long(argc, argv, "R:c:hV", options, NULL)) != -1)
                switch (c) {
                case 'R':
                        ret->root = optarg;
                        break;
                case 'c':
                        ret->config = optarg;
                        break;
                case 'h':
                        puts("Usage: gridnode-daemon [--root FOLDER] [--config FILE]\n"
                             "The node's daemon; 'gridnode run' starts it, see gridnode-run(1).");
                        exit(EXIT_SUCCESS);
                case 'V':
                        puts("gridnode-daemon " GRIDNODE_VERSION);
                        exit(EXIT_SUCCESS);
                default:
                        return -1;
                }
        return optind < argc ? -1 : 0;
}

static void hold_standard_streams(void)
{
        for (int fd = 0; fd <= 2; fd++)
                if (fcntl(fd, F_GETFD) < 0 && open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY) < 0)
                        _exit(EX_OSERR);
}

int main(int argc, char **argv)
{
        _cleanup_free_ char *program = path_of_program("gridnode", GRIDNODE_BIN_DIR "/gridnode");
        _cleanup_free_ char *helper =
                path_of_program("../helper/gridnode-helper", GRIDNODE_LIBEXEC_DIR "/gridnode-helper");
        struct node_settings settings = {0};
        struct arguments a = {0};
        struct daemon_options o = {.settings = &settings, .program = program, .helper_program = helper};
        struct error e = {0};
        int status;

        hold_standard_streams();
        signal(SIGPIPE, SIG_IGN);
        if (parse(argc, argv, &a) < 0) {
                fputs("Try 'gridnode run --help'.\n", stderr);
                return EX_USAGE;
        }
        log_open("gridnode", LOG_LEVEL_INFO);
        if (node_settings_load(a.root, a.config, &settings, &e) < 0) {
                log_text(LOG_LEVEL_ERROR, "%s", e.text);
                return EX_CONFIG;
        }
        o.root = a.root;
        o.helper_socket = a.root ? NULL : HELPER_SOCKET;
        o.user = getpwnam(USER) ? USER : NULL;
        status = daemon_run(&o);
        node_settings_done(&settings);
        return status;
}
