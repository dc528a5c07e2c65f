#include "plane/services_internal.h"

#include "base/alloc.h"
#include "base/backoff.h"
#include "base/cleanup.h"
#include "base/timer.h"
#include "plane/services_tap.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_SERVICES       4
#define MAX_ARGUMENTS      8
#define FIRST_DELAY_MS     500
#define LONGEST_DELAY_MS   30000
#define LEAST_DELAY_MS     250
#define STEADY_US          (UINT64_C(60) * 1000000) /* after which a start counts as a good one */
#define READY_POLL_MS      100
#define RELOAD_PAUSE_US    (UINT64_C(5) * 1000000)
#define UPKEEP_MS          60000
#define CERTIFICATE_ROUNDS 60 /* of upkeep: once an hour */
#define STOP_TIMEOUT_MS    5000
#define CHECK_TIMEOUT_MS   10000

enum service_state { SERVICE_STOPPED, SERVICE_STARTING, SERVICE_RUNNING, SERVICE_WAITING, SERVICE_EXTERNAL };
static const char *const state_names[] = {
        [SERVICE_STOPPED] = "stopped",
        [SERVICE_STARTING] = "starting",
        [SERVICE_RUNNING] = "running",
        [SERVICE_WAITING] = "waiting",
        [SERVICE_EXTERNAL] = "external",
};

struct service {
        struct services *all;
        const char *name, *program; /* static */
        enum service_state state;
        char *path; /* of the program */
        char *folder, *log;
        char *arguments[MAX_ARGUMENTS]; /* NULL-terminated */
        struct strv sockets;            /* its own, to be removed before it starts */
        pid_t pid;
        off_t log_offset;
        uint64_t started_us, next_us;
        unsigned restarts;
        struct backoff backoff;
        char *last_error;
        sd_event_source *child, *timer;
        struct service_tap *tap; /* of mosquitto */
};

struct services {
        sd_event *event;
        const struct plane_settings *settings;
        struct ca *ca;
        struct service items[MAX_SERVICES];
        size_t count;
        sd_event_source *reload_timer, *upkeep_timer;
        uint64_t reloaded_us;
        unsigned upkeep_rounds;
        void (*on_change)(const struct service_view *v, void *userdata);
        void *userdata;
        void (*on_denied)(const struct mosquitto_denial *denial, void *userdata);
        void *denied_userdata;
        uint64_t denied;
};

static uint64_t now_us(struct services *s)
{
        uint64_t now = 0;

        sd_event_now(s->event, CLOCK_MONOTONIC, &now);
        return now;
}

/* ---- one service ---- */

static void view(const struct service *v, struct service_view *ret)
{
        uint64_t now = v->state == SERVICE_WAITING ? now_us(v->all) : 0;

        *ret = (struct service_view){
                .name = v->name,
                .state = state_names[v->state],
                .pid = (int)v->pid,
                .restarts = v->restarts,
                .next_start_ms = v->next_us > now && now ? (double)(v->next_us - now) / 1000 : 0,
                .last_error = v->last_error,
        };
}

/* The one place where a state changes. */
static void enter(struct service *v, enum service_state state)
{
        struct service_view seen;

        if (v->state == state)
                return;
        v->state = state;
        view(v, &seen);
        if (v->all->on_change)
                v->all->on_change(&seen, v->all->userdata);
}

static int start_one(struct service *v, struct error *ret_error);
static bool is_ready(const struct service *v);

static int on_restart(sd_event_source *source, uint64_t now, void *userdata)
{
        struct service *v = userdata;

        (void)source;
        (void)now;
        v->restarts++;
        start_one(v, NULL);
        return 0;
}

static void wait_for_restart(struct service *v)
{
        double delay_ms = backoff_next_ms(&v->backoff, backoff_random());

        v->next_us = now_us(v->all) + (uint64_t)(delay_ms * 1000);
        timer_arm(v->all->event, &v->timer, delay_ms, on_restart, v);
        enter(v, SERVICE_WAITING);
}

static void explain_end(struct service *v, const siginfo_t *info)
{
        _cleanup_free_ char *line = service_last_line(v->log, v->log_offset);
        const char *how = info->si_code == CLD_EXITED ? "ended with status" : "was ended by signal";

        free(v->last_error);
        v->last_error = xasprintf("%s %d%s%s", how, info->si_status, line ? ": " : "", line ? line : "");
}

static int on_child_end(sd_event_source *source, const siginfo_t *info, void *userdata)
{
        struct service *v = userdata;

        (void)source;
        v->tap = service_tap_free(v->tap);
        explain_end(v, info);
        kill(-v->pid, SIGKILL); /* nginx's workers outlive a master that was killed */
        v->child = sd_event_source_disable_unref(v->child);
        v->pid = 0;
        if (now_us(v->all) - v->started_us > STEADY_US)
                backoff_reset(&v->backoff);
        wait_for_restart(v);
        return 0;
}

static int on_ready_poll(sd_event_source *source, uint64_t now, void *userdata)
{
        struct service *v = userdata;

        (void)source;
        (void)now;
        if (v->state != SERVICE_STARTING)
                return 0;
        if (is_ready(v))
                enter(v, SERVICE_RUNNING);
        else
                timer_arm(v->all->event, &v->timer, READY_POLL_MS, on_ready_poll, v);
        return 0;
}

/* Only with its debug lines does mosquitto tell whom it refused; they are several a message, and no log's. */
static bool is_for_log(const char *line, size_t length, void *userdata)
{
        struct services *s = userdata;
        struct mosquitto_denial denial;
        enum mosquitto_line kind = mosquitto_line_parse(line, length, &denial);

        if (kind != MOSQUITTO_DENIED)
                return kind == MOSQUITTO_OTHER;
        s->denied++;
        if (s->on_denied)
                s->on_denied(&denial, s->denied_userdata);
        return false;
}

static int spawn(struct service *v, struct error *ret_error)
{
        struct service_command c = {.program = v->path,
                .argv = (const char *const *)v->arguments,
                .folder = v->folder,
                .log = v->log};
        _cleanup_close_ int output_fd = -1;
        struct stat st;
        int r = 0;

        v->log_offset = stat(v->log, &st) == 0 ? st.st_size : 0;
        if (str_equal(v->name, "mosquitto")) {
                r = service_tap_new(
                        v->all->event, v->log, is_for_log, v->all, &v->tap, &output_fd, ret_error);
                c.log = NULL;
                c.output_fd = output_fd;
        }
        if (r == 0)
                r = service_spawn(&c, &v->pid, ret_error);
        if (r < 0) {
                v->tap = service_tap_free(v->tap);
                return r;
        }
        r = sd_event_add_child(v->all->event, &v->child, v->pid, WEXITED, on_child_end, v);
        if (r < 0) {
                kill(-v->pid, SIGKILL);
                waitpid(v->pid, NULL, 0);
                v->pid = 0;
                v->tap = service_tap_free(v->tap);
                return error_set(
                        ret_error, -r, "service.start", "cannot watch %s: %s", v->name, strerror(-r));
        }
        return 0;
}

static int start_one(struct service *v, struct error *ret_error)
{
        struct error e = {0};

        if (!v->path)
                v->path = services_find_program(v->program); /* it may have been installed meanwhile */
        service_sweep(v->program, v->folder);
        for (size_t i = 0; i < v->sockets.count; i++)
                unlink(v->sockets.items[i]);
        if (!v->path)
                error_set(&e, ENOENT, "program.missing",
                        "the program %s is missing; install it, or name an outside one in gridplane.conf",
                        v->program);
        if (e.number || spawn(v, &e) < 0) {
                free(v->last_error);
                v->last_error = xstrdup(e.text);
                wait_for_restart(v);
                if (ret_error)
                        *ret_error = e;
                return -e.number;
        }
        v->started_us = now_us(v->all);
        enter(v, SERVICE_STARTING);
        timer_arm(v->all->event, &v->timer, READY_POLL_MS, on_ready_poll, v);
        return 0;
}

/* ---- does it answer ---- */

static bool is_ready(const struct service *v)
{
        const struct plane_settings *p = v->all->settings;
        struct endpoint broker = {.port = p->broker_port};

        for (size_t i = 0; i < v->sockets.count; i++)
                if (!service_socket_is_there(v->sockets.items[i]))
                        return false;
        if (str_equal(v->name, "nginx"))
                return service_ports_answer(p->https, p->https_count);
        if (str_equal(v->name, "splitter"))
                return service_ports_answer(p->mixed, p->mixed_count);
        return !str_equal(v->name, "mosquitto") || service_ports_answer(&broker, 1);
}

bool services_are_ready(const struct services *s)
{
        for (size_t i = 0; i < s->count; i++)
                if (s->items[i].state != SERVICE_EXTERNAL && (!s->items[i].pid || !is_ready(&s->items[i])))
                        return false;
        return true;
}

/* ---- all of them ---- */

static struct service *add(struct services *s, const char *name, const char *program, bool is_external)
{
        struct service *v = &s->items[s->count++];

        *v = (struct service){.all = s,
                .name = name,
                .program = program,
                .state = is_external ? SERVICE_EXTERNAL : SERVICE_STOPPED,
                .path = services_find_program(program),
                .folder = service_folder(s->settings, name),
                .log = service_log(s->settings, name),
                .backoff = BACKOFF_INIT(FIRST_DELAY_MS, LONGEST_DELAY_MS, LEAST_DELAY_MS)};
        v->arguments[0] = xstrdup(program);
        return v;
}

static void add_nginx(struct services *s, const char *name, const char *socket_name)
{
        struct service *v = add(s, name, "nginx", s->settings->proxy_is_external);

        v->arguments[1] = xstrdup("-e");
        v->arguments[2] = xstrdup("stderr");
        v->arguments[3] = xstrdup("-p");
        v->arguments[4] = xstrdup(v->folder);
        v->arguments[5] = xstrdup("-c");
        v->arguments[6] = path_join(v->folder, "nginx.conf");
        strv_take(&v->sockets, path_join(s->settings->paths.run, socket_name));
}

int services_new(sd_event *event, const struct plane_settings *settings, struct ca *ca, struct services **ret,
        struct error *ret_error)
{
        struct services *s;
        struct service *v;
        sigset_t child;

        sigemptyset(&child);
        sigaddset(&child, SIGCHLD);
        if (sigprocmask(SIG_BLOCK, &child, NULL) < 0)
                return error_set(
                        ret_error, errno, "service.signal", "cannot block SIGCHLD: %s", strerror(errno));
        s = xcalloc(1, sizeof(*s));
        s->event = sd_event_ref(event);
        s->settings = settings;
        s->ca = ca;
        /* What others connect to comes first. */
        v = add(s, "mosquitto", "mosquitto", settings->broker_url != NULL);
        v->arguments[1] = xstrdup("-c");
        v->arguments[2] = path_join(v->folder, "mosquitto.conf");
        strv_add(&v->sockets, settings->broker_socket);
        v = add(s, "registry", "docker-registry", settings->registry_url != NULL);
        v->arguments[1] = xstrdup("serve");
        v->arguments[2] = path_join(v->folder, "config.yml");
        strv_add(&v->sockets, settings->registry_socket);
        add_nginx(s, "nginx", "proxy/https.sock");
        add_nginx(s, "splitter", "proxy/mqtt.sock");
        *ret = s;
        return 0;
}

void services_watch(
        struct services *s, void (*on_change)(const struct service_view *v, void *userdata), void *userdata)
{
        s->on_change = on_change;
        s->userdata = userdata;
}

void services_watch_denials(struct services *s,
        void (*on_denied)(const struct mosquitto_denial *denial, void *userdata), void *userdata)
{
        s->on_denied = on_denied;
        s->denied_userdata = userdata;
}

uint64_t services_denied(const struct services *s)
{
        return s->denied;
}

/* nginx -t opens what the configuration names, so that it is asked when nothing of ours runs any more. */
static int check_nginx(struct service *v, struct error *ret_error)
{
        const char *argv[MAX_ARGUMENTS + 1] = {0};
        struct service_command c = {.program = v->path, .argv = argv, .folder = v->folder, .log = v->log};
        size_t count = 0;

        if (v->state == SERVICE_EXTERNAL || !v->path || !str_equal(v->program, "nginx"))
                return 0;
        for (; v->arguments[count]; count++)
                argv[count] = v->arguments[count];
        argv[count] = "-t";
        for (size_t i = 0; i < v->sockets.count; i++)
                unlink(v->sockets.items[i]);
        return service_run(&c, CHECK_TIMEOUT_MS, ret_error);
}

static int on_upkeep(sd_event_source *source, uint64_t now, void *userdata);

int services_start(struct services *s, struct error *ret_error)
{
        int r = services_prepare(s->settings, ret_error);

        if (r == 0)
                r = services_write(s->settings, s->ca, ret_error);
        for (size_t i = 0; i < s->count && r == 0; i++)
                service_sweep(s->items[i].program, s->items[i].folder);
        for (size_t i = 0; i < s->count && r == 0; i++)
                r = check_nginx(&s->items[i], ret_error);
        for (size_t i = 0; i < s->count && r == 0; i++)
                if (s->items[i].state != SERVICE_EXTERNAL)
                        r = start_one(&s->items[i], ret_error);
        if (r == 0)
                timer_arm(s->event, &s->upkeep_timer, UPKEEP_MS, on_upkeep, s);
        return r;
}

/* ---- reloading and upkeep ---- */

static void signal_service(struct services *s, const char *name, int signal_number)
{
        for (size_t i = 0; i < s->count; i++)
                if (str_equal(s->items[i].name, name) && s->items[i].pid)
                        kill(s->items[i].pid, signal_number);
}

/* nginx starts new workers each time, and the old ones stay for as long as their last request. */
static void reload_nginx(struct services *s)
{
        s->reloaded_us = now_us(s);
        signal_service(s, "nginx", SIGHUP);
}

static int on_reload(sd_event_source *source, uint64_t now, void *userdata)
{
        struct services *s = userdata;

        (void)source;
        (void)now;
        s->reload_timer = sd_event_source_disable_unref(s->reload_timer);
        reload_nginx(s);
        return 0;
}

static void ask_reload(struct services *s)
{
        uint64_t since = now_us(s) - s->reloaded_us;

        signal_service(s, "mosquitto", SIGHUP);
        if (s->reload_timer)
                return;
        if (s->reloaded_us && since < RELOAD_PAUSE_US)
                timer_arm(s->event, &s->reload_timer, (double)(RELOAD_PAUSE_US - since) / 1000, on_reload, s);
        else
                reload_nginx(s);
}

int services_reload(struct services *s, struct error *ret_error)
{
        _cleanup_free_ char *certificate = NULL, *key = NULL;
        bool changed;
        int r = services_certificate(s->settings, s->ca, &changed, &certificate, &key, ret_error);

        ask_reload(s); /* a revocation must not wait for a certificate that cannot be made */
        return r;
}

static void cut_access_log(struct services *s)
{
        _cleanup_free_ char *path = path_join(s->settings->paths.state, "log/access.log");
        _cleanup_free_ char *old = xasprintf("%s.1", path);
        struct stat st;

        if (stat(path, &st) < 0 || st.st_size < SERVICE_LOG_BYTES || rename(path, old) < 0)
                return;
        signal_service(s, "nginx", SIGUSR1);
}

static int on_upkeep(sd_event_source *source, uint64_t now, void *userdata)
{
        _cleanup_free_ char *certificate = NULL, *key = NULL;
        struct services *s = userdata;
        bool changed = false;

        (void)source;
        (void)now;
        for (size_t i = 0; i < s->count; i++)
                service_cut_log(s->items[i].log);
        cut_access_log(s);
        /* What cannot be renewed now is tried again in an hour, for a month; preflight tells of it. */
        if (++s->upkeep_rounds % CERTIFICATE_ROUNDS == 0 &&
                services_certificate(s->settings, s->ca, &changed, &certificate, &key, NULL) == 0 && changed)
                ask_reload(s);
        timer_arm(s->event, &s->upkeep_timer, UPKEEP_MS, on_upkeep, s);
        return 0;
}

size_t services_count(const struct services *s)
{
        return s->count;
}

void services_view(const struct services *s, size_t index, struct service_view *ret)
{
        view(&s->items[index], ret);
}

/* ---- the end ---- */

static bool all_ended(struct services *s)
{
        bool ended = true;

        for (size_t i = 0; i < s->count; i++) {
                struct service *v = &s->items[i];

                if (v->pid && waitpid(v->pid, NULL, WNOHANG) == v->pid) {
                        kill(-v->pid, SIGKILL);
                        v->pid = 0;
                }
                ended &= v->pid == 0;
        }
        return ended;
}

static void stop_all(struct services *s)
{
        for (size_t i = 0; i < s->count; i++) {
                struct service *v = &s->items[i];

                v->timer = sd_event_source_disable_unref(v->timer);
                v->child = sd_event_source_disable_unref(v->child);
                if (v->pid)
                        kill(v->pid, SIGTERM);
        }
        for (int waited_ms = 0; !all_ended(s) && waited_ms < STOP_TIMEOUT_MS; waited_ms += 10)
                poll(NULL, 0, 10);
        for (size_t i = 0; i < s->count; i++)
                if (s->items[i].pid) {
                        kill(-s->items[i].pid, SIGKILL);
                        waitpid(s->items[i].pid, NULL, 0);
                        s->items[i].pid = 0;
                }
}

struct services *services_free(struct services *s)
{
        if (!s)
                return NULL;
        sd_event_source_disable_unref(s->reload_timer);
        sd_event_source_disable_unref(s->upkeep_timer);
        stop_all(s);
        for (size_t i = 0; i < s->count; i++) {
                struct service *v = &s->items[i];

                for (size_t j = 0; v->arguments[j]; j++)
                        free(v->arguments[j]);
                strv_done(&v->sockets);
                service_tap_free(v->tap);
                free(v->path);
                free(v->folder);
                free(v->log);
                free(v->last_error);
        }
        sd_event_unref(s->event);
        free(s);
        return NULL;
}
