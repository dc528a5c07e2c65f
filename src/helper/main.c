/* gridnode-helper: does, as root, what the daemon asks of the closed table in protocol.h, and nothing else.
 * File descriptor 3 is either the socket on which systemd listens (sd_listen_fds(3)), or one end of a pair
 * whose other end the daemon holds: of requests, or, with --supervise, of the connections to the helpers that
 * it starts. */
#include "helper/network.h"
#include "helper/protocol.h"
#include "helper/say.h"
#include "helper/spawn.h"
#include "helper/supervisor.h"
#include "helper/update_start.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/text.h"
#include "base/version.h"

#include <errno.h>
#include <malloc.h>
#include <poll.h>
#include <pwd.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sysexits.h>
#include <time.h>

#define DEFAULT_USER        "gridnode"
#define MAX_CONNECTIONS     8
#define IDLE_MS             60000 /* without a connection; systemd starts it again */
#define REFUSAL_LOG_SECONDS 60

static volatile sig_atomic_t stop;

struct server {
        int listener; /* -1: the daemon's child */
        uid_t user;   /* may connect, besides root */
        bool has_user;
        const char *root; /* of the files of updates; NULL: the system's */
        int connections[MAX_CONNECTIONS];
        size_t connection_count;
        time_t refusal_logged;
        unsigned refusals_unsaid;
};

static void on_signal(int number)
{
        (void)number;
        stop = 1;
}

/* ---- one request ---- */

static int answer(int fd, const struct error *e)
{
        json_t *object = helper_answer_to_json(e);
        _cleanup_free_ char *text = json_to_text(object);

        json_decref(object);
        /* Who asks without reading answers is not waited for. */
        return send(fd, text, strlen(text), MSG_DONTWAIT | MSG_NOSIGNAL) < 0 ? -errno : 0;
}

static void apply_network(const struct helper_network *n, struct error *ret)
{
        if (helper_network_apply(n, ret) < 0)
                say(LOG_WARNING, "the network is left as it was: %s", ret->text);
        else
                say(LOG_INFO, "network applied: %zu interfaces, %zu addresses, %zu routes", n->up_count,
                        n->address_count, n->route_count);
}

static void start_update(const char *root, const struct update_job *job, struct error *ret)
{
        if (update_start(root, job, ret) < 0)
                say(LOG_WARNING, "the update %s is not begun: %s", job->id, ret->text);
        else
                say(LOG_INFO, "the update %s begins: %s, asked for by %s", job->id,
                        update_action_to_string(job->action), job->by);
}

static void cancel_update(const char *root, const char *id, struct error *ret)
{
        if (update_cancel(root, id, ret) < 0)
                say(LOG_WARNING, "not cancelled: %s", ret->text);
        else
                say(LOG_INFO, "the update %s is cancelled", id);
}

static void perform(const struct server *s, const struct helper_request *r, struct error *ret)
{
        switch (r->operation) {
        case HELPER_HELLO:
                break;
        case HELPER_NETWORK_APPLY:
                apply_network(&r->network, ret);
                break;
        case HELPER_UPDATE_START:
                start_update(s->root, &r->job, ret);
                break;
        case HELPER_UPDATE_CANCEL:
                cancel_update(s->root, r->update_id, ret);
                break;
        }
}

/* 0, or negative when the connection is to end. */
static int serve_message(const struct server *s, int fd)
{
        _cleanup_free_ char *data = NULL;
        struct helper_request request = {0};
        struct error e = {0};
        ssize_t length = recv(fd, NULL, 0, MSG_PEEK | MSG_TRUNC | MSG_DONTWAIT);
        int r;

        if (length < 0)
                return errno == EAGAIN || errno == EINTR ? 0 : -errno;
        if (length == 0)
                return -ECONNRESET;
        if ((size_t)length > HELPER_MESSAGE_MAXIMUM) {
                say(LOG_WARNING, "refused a message of %zd bytes; its connection is closed", length);
                return -EMSGSIZE;
        }
        data = xmalloc((size_t)length);
        length = recv(fd, data, (size_t)length, MSG_DONTWAIT);
        if (length <= 0)
                return -ECONNRESET;
        if (helper_request_parse(data, (size_t)length, &request, &e) < 0) {
                say(LOG_WARNING, "refused a message of %zd bytes; its connection is closed: %s", length,
                        e.text);
                answer(fd, &e);
                return -EBADMSG;
        }
        perform(s, &request, &e);
        helper_request_done(&request);
        r = answer(fd, &e);
        malloc_trim(0);
        return r;
}

/* ---- connections ---- */

static bool peer_is_welcome(struct server *s, int fd)
{
        struct timespec now;
        struct ucred peer;
        socklen_t length = sizeof peer;

        if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) < 0)
                return false;
        if (peer.uid == 0 || (s->has_user && peer.uid == s->user))
                return true;
        clock_gettime(CLOCK_MONOTONIC, &now);
        if (s->refusal_logged && now.tv_sec - s->refusal_logged < REFUSAL_LOG_SECONDS) {
                s->refusals_unsaid++;
                return false;
        }
        say(LOG_WARNING, "refused a connection of user %u (process %d); %u more were refused before",
                (unsigned)peer.uid, (int)peer.pid, s->refusals_unsaid);
        s->refusal_logged = now.tv_sec ? now.tv_sec : 1;
        s->refusals_unsaid = 0;
        return false;
}

static void take_connection(struct server *s)
{
        int fd = accept4(s->listener, NULL, NULL, SOCK_CLOEXEC);

        if (fd < 0)
                return;
        if (peer_is_welcome(s, fd))
                s->connections[s->connection_count++] = fd;
        else
                close(fd);
}

static void drop_connection(struct server *s, size_t i)
{
        close(s->connections[i]);
        s->connections[i] = s->connections[--s->connection_count];
}

/* One round; false when there is nobody left to serve. */
static bool serve_round(struct server *s, const sigset_t *unblocked)
{
        static const struct timespec idle = {.tv_sec = IDLE_MS / 1000};
        struct pollfd fds[MAX_CONNECTIONS + 1];
        size_t count = s->connection_count;
        int r;

        for (size_t i = 0; i < count; i++)
                fds[i] = (struct pollfd){.fd = s->connections[i], .events = POLLIN};
        fds[count] = (struct pollfd){.fd = count < MAX_CONNECTIONS ? s->listener : -1, .events = POLLIN};
        r = ppoll(fds, count + 1, count ? NULL : &idle, unblocked);
        if (r == 0 || (r < 0 && errno != EINTR))
                return false;
        if (r < 0)
                return true;
        for (size_t i = count; i > 0; i--)
                if (fds[i - 1].revents && serve_message(s, s->connections[i - 1]) < 0)
                        drop_connection(s, i - 1);
        if (fds[count].revents)
                take_connection(s);
        return s->listener >= 0 || s->connection_count > 0;
}

/* Signals are heard between requests only: what was begun is done. */
static void serve(struct server *s)
{
        struct sigaction action = {.sa_handler = on_signal};
        sigset_t blocked, before;

        sigemptyset(&blocked);
        sigaddset(&blocked, SIGTERM);
        sigaddset(&blocked, SIGINT);
        sigprocmask(SIG_BLOCK, &blocked, &before);
        sigaction(SIGTERM, &action, NULL);
        sigaction(SIGINT, &action, NULL);
        while (!stop && serve_round(s, &before))
                ;
        while (s->connection_count > 0)
                drop_connection(s, 0);
}

static int take_socket(struct server *s)
{
        int listens = 0, type = 0;
        socklen_t length = sizeof listens;

        if (getsockopt(HELPER_FD, SOL_SOCKET, SO_TYPE, &type, &length) < 0 || type != SOCK_SEQPACKET)
                return -ENOTSOCK;
        length = sizeof listens;
        if (getsockopt(HELPER_FD, SOL_SOCKET, SO_ACCEPTCONN, &listens, &length) < 0)
                return -errno;
        s->listener = listens ? HELPER_FD : -1;
        if (!listens)
                s->connections[s->connection_count++] = HELPER_FD;
        return 0;
}

static int no_socket(void)
{
        fprintf(stderr,
                "gridnode-helper: file descriptor 3 is no socket of packets; systemd or gridnode starts "
                "this program\n");
        return EX_USAGE;
}

struct arguments {
        const char *user, *root;
        bool supervises, version;
};

static bool read_arguments(int argc, char **argv, struct arguments *ret)
{
        for (int i = 1; i < argc; i++) {
                if (str_equal(argv[i], "--version") && argc == 2)
                        ret->version = true;
                else if (str_equal(argv[i], HELPER_SUPERVISE))
                        ret->supervises = true;
                else if (str_equal(argv[i], "--user") && i + 1 < argc)
                        ret->user = argv[++i];
                else if (str_equal(argv[i], HELPER_ROOT) && i + 1 < argc)
                        ret->root = argv[++i];
                else
                        return false;
        }
        return !ret->supervises || str_equal(ret->user, DEFAULT_USER);
}

int main(int argc, char **argv)
{
        struct arguments a = {.user = DEFAULT_USER};
        struct server s = {0};
        const struct passwd *entry;

        if (!read_arguments(argc, argv, &a)) {
                fprintf(stderr, "Usage: gridnode-helper [--user NAME | " HELPER_SUPERVISE
                                " | --version] [" HELPER_ROOT " DIR]\n");
                return EX_USAGE;
        }
        if (a.version) {
                printf("gridnode-helper %s\n", GRIDNODE_VERSION);
                return EXIT_SUCCESS;
        }
        signal(SIGPIPE, SIG_IGN);              /* a log that nobody reads any more is no reason to end */
        prctl(PR_SET_NAME, "gridnode-helper"); /* the supervisor starts it by another path */
        if (take_socket(&s) < 0 || (a.supervises && s.listener >= 0))
                return no_socket();
        if (a.supervises)
                return supervise(HELPER_FD, a.root);
        s.root = a.root;
        entry = s.listener >= 0 ? getpwnam(a.user) : NULL;
        s.has_user = entry;
        s.user = entry ? entry->pw_uid : 0;
        if (s.listener >= 0 && !entry)
                say(LOG_WARNING, "there is no user %s: only root is answered", a.user);
        serve(&s);
        return EXIT_SUCCESS;
}
