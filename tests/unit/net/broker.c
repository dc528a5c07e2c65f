#include "broker.h"

#include "../scaffold.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

static char folder[] = "/tmp/test_broker.XXXXXX";
double broker_longest_ms;

const char *broker_path(const char *name)
{
        static char paths[16][160];
        static unsigned next;
        char *path = paths[next++ % 16];

        snprintf(path, sizeof paths[0], "%s/%s", folder, name);
        return path;
}

void broker_run(const char *command)
{
        if (system(command) != 0)
                fail_msg("%s", command);
}

static void write_text(const char *path, const char *text)
{
        int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

        assert_true(fd >= 0);
        assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
        close(fd);
}

static void save(const char *name, const struct pki_pair *p, const struct pki_pair *issuer)
{
        char path[64];

        snprintf(path, sizeof path, "%s.crt", name);
        pki_save_certificate(broker_path(path), p);
        if (issuer)
                pki_save_certificate(broker_path(path), issuer);
        snprintf(path, sizeof path, "%s.key", name);
        pki_save_key(broker_path(path), p);
}

static void make_certificates(void)
{
        struct pki_pair root = pki_issue(&(struct pki_request){.organisation = "Grid, Inc",
                                .common_name = "Grid Root CA",
                                .is_authority = true}),
                        issuing = pki_issue(&(struct pki_request){.organisation = "Grid, Inc",
                                .common_name = "Grid Issuing CA",
                                .is_authority = true,
                                .issuer = &root}),
                        server = pki_issue(&(struct pki_request){.common_name = BROKER_HOST,
                                .host = "DNS:" BROKER_HOST,
                                .usage = "serverAuth",
                                .issuer = &issuing}),
                        node = pki_issue(&(struct pki_request){.organisation = "default",
                                .common_name = "n-1",
                                .usage = "clientAuth",
                                .issuer = &issuing}),
                        other_root = pki_issue(&(struct pki_request){
                                .organisation = "Other", .common_name = "Other CA", .is_authority = true}),
                        other = pki_issue(&(struct pki_request){
                                .common_name = "n-1", .usage = "clientAuth", .issuer = &other_root});

        pki_save_certificate(broker_path("root.pem"), &root);
        pki_save_certificate(broker_path("other-root.pem"), &other_root);
        save("server", &server, &issuing);
        save("node", &node, &issuing);
        save("other", &other, NULL);
        pki_pair_done(&root);
        pki_pair_done(&issuing);
        pki_pair_done(&server);
        pki_pair_done(&node);
        pki_pair_done(&other_root);
        pki_pair_done(&other);
}

int broker_set_up(void **state)
{
        (void)state;
        scaffold_enter_namespace();
        assert_non_null(mkdtemp(folder));
        assert_int_equal(chmod(folder, 0755), 0);
        for (int i = 1; i <= 3; i++) {
                char command[64];

                snprintf(command, sizeof command, "ip addr add 198.51.100.%d/32 dev lo", i);
                broker_run(command);
        }
        make_certificates();
        return 0;
}

int broker_tear_down(void **state)
{
        char command[64];

        (void)state;
        snprintf(command, sizeof command, "rm -rf %s", folder);
        return system(command);
}

static pid_t spawn(const char *const *arguments, const char *output)
{
        pid_t parent = getpid(), pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
                int fd = open(output, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);

                prctl(PR_SET_PDEATHSIG, SIGKILL);
                if (getppid() != parent || fd < 0)
                        _exit(127);
                dup2(fd, STDOUT_FILENO);
                dup2(fd, STDERR_FILENO);
                execv(arguments[0], (char **)(uintptr_t)arguments);
                _exit(127);
        }
        return pid;
}

static bool answers(const struct sockaddr *address, socklen_t length)
{
        int fd = socket(address->sa_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
        bool ok = connect(fd, address, length) == 0;

        close(fd);
        return ok;
}

static void wait_for(const struct sockaddr *address, socklen_t length, pid_t pid)
{
        for (int i = 0; i < 1000; i++) {
                int status;

                if (answers(address, length))
                        return;
                if (waitpid(pid, &status, WNOHANG) != 0)
                        break;
                usleep(10000);
        }
        fail_msg("the server did not start");
}

static void wait_for_port(unsigned short port, pid_t pid)
{
        struct sockaddr_in in = {
                .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

        wait_for((struct sockaddr *)&in, sizeof in, pid);
}

pid_t broker_start(const char *acl)
{
        char configuration[4096];
        int length = snprintf(configuration, sizeof configuration,
                "user root\nper_listener_settings true\nlog_dest stdout\nset_tcp_nodelay true\n"
                "listener 0 %s\nallow_anonymous true\n"
                "listener %d\nallow_anonymous true\n"
                "listener %d\nallow_anonymous false\n"
                "listener %d\nallow_anonymous false\ncafile %s\ncertfile %s\nkeyfile %s\n"
                "require_certificate true\nuse_identity_as_username true\n",
                broker_path("broker.sock"), BROKER_TCP_PORT, BROKER_SHUT, BROKER_TLS_PORT,
                broker_path("root.pem"), broker_path("server.crt"), broker_path("server.key"));
        const char *const arguments[] = {"/usr/sbin/mosquitto", "-c", broker_path("broker.conf"), NULL};
        pid_t pid;

        if (acl) {
                write_text(broker_path("broker.acl"), acl);
                snprintf(configuration + length, sizeof configuration - (size_t)length, "acl_file %s\n",
                        broker_path("broker.acl"));
        }
        write_text(broker_path("broker.conf"), configuration);
        unlink(broker_path("broker.sock"));
        pid = spawn(arguments, broker_path("broker.log"));
        wait_for_port(BROKER_TLS_PORT, pid);
        return pid;
}

pid_t broker_start_nginx(void)
{
        char configuration[4096];
        const char *const arguments[] = {
                "/usr/sbin/nginx", "-c", broker_path("nginx.conf"), "-p", folder, "-e", "stderr", NULL};
        pid_t pid;

        snprintf(configuration, sizeof configuration,
                "load_module /usr/lib/nginx/modules/ngx_stream_module.so;\n"
                "user root;\ndaemon off;\nmaster_process off;\npid %s;\nerror_log stderr;\n"
                "events {}\nstream {\n"
                "log_format seen '$ssl_preread_server_name $ssl_preread_alpn_protocols';\n"
                "access_log %s seen;\n"
                "server { listen %d; ssl_preread on; proxy_pass 127.0.0.1:%d; }\n}\n",
                broker_path("nginx.pid"), broker_path("seen.log"), BROKER_PREREAD, BROKER_TLS_PORT);
        write_text(broker_path("nginx.conf"), configuration);
        pid = spawn(arguments, broker_path("nginx.log"));
        wait_for_port(BROKER_PREREAD, pid);
        return pid;
}

void broker_stop(pid_t pid, int signal)
{
        int status;

        if (pid <= 0)
                return;
        kill(pid, signal);
        kill(pid, SIGCONT);
        assert_int_equal(waitpid(pid, &status, 0), pid);
}

int broker_listen(unsigned short *ret_port)
{
        struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
        socklen_t length = sizeof in;
        int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

        assert_true(fd >= 0);
        assert_int_equal(bind(fd, (struct sockaddr *)&in, sizeof in), 0);
        assert_int_equal(listen(fd, 16), 0);
        assert_int_equal(getsockname(fd, (struct sockaddr *)&in, &length), 0);
        *ret_port = ntohs(in.sin_port);
        return fd;
}

bool broker_loop(sd_event *event, const bool *flag, double timeout_ms)
{
        double end = clock_monotonic_ms() + timeout_ms;

        while (!*flag) {
                double now = clock_monotonic_ms(), left = end - now;

                if (left <= 0)
                        return false;
                if (sd_event_prepare(event) > 0 || sd_event_wait(event, (uint64_t)(left * 1000) + 1) > 0) {
                        now = clock_monotonic_ms();
                        assert_true(sd_event_dispatch(event) >= 0);
                        if (clock_monotonic_ms() - now > broker_longest_ms)
                                broker_longest_ms = clock_monotonic_ms() - now;
                }
        }
        return true;
}

void broker_wait(sd_event *event, double time_ms)
{
        bool never = false;

        broker_loop(event, &never, time_ms);
}
