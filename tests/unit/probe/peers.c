#include "peers.h"

#include "../pki.h"
#include "../scaffold.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <setjmp.h>

#include <cmocka.h>

void peers_enter_namespace(void)
{
        scaffold_enter_namespace();
        signal(SIGPIPE, SIG_IGN);
}

struct endpoint peers_endpoint(uint16_t port)
{
        struct endpoint e = {.port = port};

        assert_int_equal(inet_addr_parse("127.0.0.1", &e.address), 0);
        return e;
}

static int open_socket(uint16_t port, struct sockaddr_storage *ret, socklen_t *ret_length)
{
        struct endpoint e = peers_endpoint(port);
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        *ret_length = endpoint_to_sockaddr(&e, ret);
        return fd;
}

static bool is_listening(uint16_t port)
{
        struct sockaddr_storage sa;
        socklen_t length;
        int fd = open_socket(port, &sa, &length);
        bool yes = connect(fd, (struct sockaddr *)&sa, length) == 0;

        close(fd);
        return yes;
}

pid_t peers_start(const char *const argv[], uint16_t port, const char *log)
{
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                int in = open("/dev/null", O_RDONLY), out = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

                prctl(PR_SET_PDEATHSIG, SIGKILL);
                dup2(in, 0);
                dup2(out, 1);
                dup2(out, 2);
                execvp(argv[0], (char *const *)argv);
                _exit(127);
        }
        for (int i = 0; i < 500 && !is_listening(port); i++) {
                assert_int_equal(waitpid(pid, NULL, WNOHANG), 0);
                usleep(20000);
        }
        assert_true(is_listening(port));
        return pid;
}

pid_t peers_misbehave(uint16_t port, void (*behave)(int fd))
{
        struct sockaddr_storage sa;
        socklen_t length;
        int listener = open_socket(port, &sa, &length), one = 1;
        pid_t pid;

        setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
        assert_int_equal(bind(listener, (struct sockaddr *)&sa, length), 0);
        assert_int_equal(listen(listener, 16), 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
                prctl(PR_SET_PDEATHSIG, SIGKILL);
                for (;;) {
                        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

                        if (fd < 0)
                                _exit(1);
                        behave(fd);
                        close(fd);
                }
        }
        close(listener);
        return pid;
}

void peers_stop(pid_t pid)
{
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
}

static void on_result(struct probe *p, struct measurement *m, void *userdata)
{
        (void)p;
        *(struct measurement **)userdata = m;
}

struct measurement *peers_measure(struct probe_context *c, const struct probe_spec *spec)
{
        struct measurement *m = NULL;
        double until_ms = probe_context_now_ms(c) + 20000;

        assert_int_equal(probe_start(c, spec, on_result, &m, NULL), 0);
        while (!m && probe_context_now_ms(c) < until_ms)
                assert_true(sd_event_run(c->event, 1000000) >= 0);
        assert_non_null(m);
        return m;
}

void peers_read_some(int fd)
{
        char buffer[4096];

        if (read(fd, buffer, sizeof(buffer)) < 0)
                return;
}

void peers_send(int fd, const void *bytes, size_t length)
{
        if (write(fd, bytes, length) < 0)
                return;
}

void peers_close_with_reset(int fd)
{
        struct linger linger = {.l_onoff = 1};

        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
}

void peers_stay_silent(int fd)
{
        char buffer[4096];

        while (read(fd, buffer, sizeof(buffer)) > 0)
                ;
}

static char folder[] = "/tmp/gridnode-test.XXXXXX";

const char *peers_folder(void)
{
        return folder;
}

const char *peers_path(const char *name)
{
        static char paths[16][128];
        static unsigned next;
        char *path = paths[next++ % ELEMENTS(paths)];

        snprintf(path, sizeof(paths[0]), "%s/%s", folder, name);
        return path;
}

static const char *path_with(const char *name, const char *ending)
{
        char file[64];

        snprintf(file, sizeof(file), "%s.%s", name, ending);
        return peers_path(file);
}

static struct pki_pair make(const char *name, const struct pki_request *request)
{
        struct pki_pair p = pki_issue(request);

        pki_save_certificate(path_with(name, "crt"), &p);
        pki_save_certificate(path_with(name, "pem"), &p);
        pki_save_key(path_with(name, "key"), &p);
        if (request->issuer) {
                pki_save_certificate(path_with(name, "chain"), request->issuer);
                pki_save_certificate(path_with(name, "pem"), request->issuer);
        }
        return p;
}

void peers_make_pki(void)
{
        struct pki_request request = {.organisation = "Grid Inc",
                .common_name = "Grid Root CA",
                .is_authority = true,
                .from_s = -90000,
                .to_s = 90000};
        struct pki_pair root, middle, foreign;

        assert_non_null(mkdtemp(folder));
        root = make("root", &request);
        request.common_name = "Grid Issuing CA ünï", request.issuer = &root;
        middle = make("middle", &request);
        foreign = make("foreign", &(struct pki_request){.organisation = "Fortinet",
                                          .common_name = "Fortinet Untrusted CA",
                                          .is_authority = true});
        const struct {
                const char *name;
                struct pki_request request;
        } ends[] = {{"leaf", {.common_name = PEERS_HOST,
                                     .host = "DNS:" PEERS_HOST ",DNS:*.grid.example",
                                     .issuer = &middle}},
                {"expired", {.common_name = PEERS_HOST,
                                    .host = "DNS:" PEERS_HOST,
                                    .issuer = &middle,
                                    .from_s = -7200,
                                    .to_s = -3600}},
                {"forged", {.common_name = PEERS_HOST, .host = "DNS:" PEERS_HOST, .issuer = &foreign}},
                {"node", {.common_name = "branch-12", .usage = "clientAuth", .issuer = &middle}},
                {"old_node", {.common_name = "branch-12",
                                     .usage = "clientAuth",
                                     .issuer = &middle,
                                     .from_s = -7200,
                                     .to_s = -3600}}};

        for (size_t i = 0; i < ELEMENTS(ends); i++) {
                struct pki_pair p = make(ends[i].name, &ends[i].request);

                pki_pair_done(&p);
        }
        pki_pair_done(&root);
        pki_pair_done(&middle);
        pki_pair_done(&foreign);
}

void peers_remove_pki(void)
{
        char command[64];

        snprintf(command, sizeof(command), "rm -rf %s", folder);
        assert_int_equal(system(command), 0);
}

struct trust *peers_trust(const char *client)
{
        struct trust *t = NULL;
        struct error error;

        assert_int_equal(trust_new(&(struct trust_options){.root_ca_path = peers_path("root.crt"),
                                           .certificate_path = path_with(client, "pem"),
                                           .key_path = path_with(client, "key")},
                                 &t, &error),
                0);
        assert_true(trust_has_certificate(t));
        return t;
}
