/* gridnode fetch: one file of the repository, as the jobs fetch theirs. */
#include "cli/commands_gridnode.h"
#include "cli/enrolment.h"
#include "cli/progress.h"
#include "cli/stop.h"
#include "cli/terminal.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/json.h"
#include "base/paths.h"
#include "base/text.h"
#include "node/transfers.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/stat.h>
#include <sysexits.h>

#define NO_WAY_MS      60000.0
#define LEAST_A_SECOND 256 /* bytes: below that, nobody is served */

struct fetch {
        struct session *session;
        sd_event *event;
        struct node_transfers *transfers;
        char *path; /* at the server */
        char *output, *partial, *validator;
        int status;
};

static const char *state_to_string(enum transfer_state s)
{
        static const char *const names[] = {
                "waiting", "connecting", "moving", "done", "failed", "not-modified"};

        return names[s];
}

static void show(struct transfer *t, const struct transfer_view *v, void *userdata)
{
        const struct fetch *f = userdata;
        bool is_waiting = v->state == TRANSFER_WAITING;
        struct transfer_view now;

        transfer_view(t, &now);
        progress_show(&(struct progress){.name = f->output,
                              .state = state_to_string(v->state),
                              .bytes = v->bytes,
                              .size = v->size,
                              .bytes_per_second = v->bytes_per_second,
                              .remaining_ms = v->remaining_ms,
                              .way = v->way,
                              .waits_for = is_waiting ? v->failure.text : NULL,
                              .next_attempt_ms = now.next_attempt_ms},
                f->session->settings.json);
}

static void write_end(const struct fetch *f, const struct transfer_view *v, const struct transfer_answer *a)
{
        char bytes[32], address[INET_ADDR_TEXT];

        if (f->session->settings.json) {
                json_t *j = json_pack("{s:s,s:s,s:I,s:I,s:I,s:i,s:i,s:s,s:s}", "name", f->output, "state",
                        state_to_string(v->state), "bytes", (json_int_t)v->bytes, "resumed",
                        (json_int_t)v->resumed, "fetched", (json_int_t)v->fetched, "attempts",
                        (int)v->attempts, "way", (int)v->way, "address",
                        endpoint_format(&v->address, address), "sha256", a->sha256);
                _cleanup_free_ char *text = json_to_text(j);

                json_decref(j);
                puts(text);
                return;
        }
        printf("%s: %s by %s%s\n", f->output, progress_bytes(v->bytes, bytes),
                endpoint_format(&v->address, address), v->resumed ? ", a part of it was there" : "");
        if (a->sha256[0])
                printf("SHA-256 %s\n", a->sha256);
}

static void on_done(
        struct transfer *t, const struct transfer_view *v, const struct transfer_answer *a, void *userdata)
{
        struct fetch *f = userdata;

        (void)t;
        terminal_progress_end();
        if (v->state == TRANSFER_DONE) {
                write_end(f, v, a);
                f->status = EXIT_SUCCESS;
        } else
                f->status = session_fail(f->session, v->failure.is_permanent ? EXIT_FAILURE : EX_UNAVAILABLE,
                        "%s%s", v->failure.text,
                        v->bytes ? "; what came is kept, the same command goes on with it" : "");
        sd_event_exit(f->event, 0);
}

static int on_stop(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct fetch *f = userdata;

        (void)source, (void)fd, (void)events;
        terminal_progress_end();
        f->status = 128 + stop_signal();
        return sd_event_exit(f->event, 0);
}

static int start(struct fetch *f, struct error *ret_error)
{
        const struct session *s = f->session;
        const struct profile_service *service = node_transfers_service(f->transfers);
        struct transfer_request r = {.host = service->host,
                .port = service->port,
                .path = f->path,
                .mutual = true,
                .priority = BUDGET_UPDATES,
                .path_partial = f->partial,
                .path_final = f->output,
                .path_validator = f->validator,
                .sha256 = s->settings.sha256,
                .deadline_ms = s->settings.budget_s * 1000};
        struct transfer_handlers h = {.on_progress = show, .on_done = on_done, .userdata = f};
        struct transfer *t;

        /* By hand, somebody waits in front of it: a way that is closed is told after a minute. */
        if (r.deadline_ms <= 0)
                r.no_way_ms = NO_WAY_MS;
        r.minimum_bytes_per_second = LEAST_A_SECOND;
        return transfer_start(node_transfers_engine(f->transfers), &r, &h, &t, ret_error);
}

static int run(struct fetch *f, const struct node_settings *n, struct error *ret_error)
{
        struct node_transfers_options o = {.settings = n, .service = "repo"};
        int stop_fd = stop_watch(), r;

        r = stop_fd < 0 ? stop_fd : sd_event_new(&f->event);
        if (r >= 0)
                r = sd_event_add_io(f->event, NULL, stop_fd, EPOLLIN, on_stop, f);
        if (r < 0)
                return error_set(ret_error, -r, "loop.failed", "%s", strerror(-r));
        r = node_transfers_new(f->event, &o, &f->transfers, ret_error);
        if (r == 0)
                r = start(f, ret_error);
        if (r == 0)
                sd_event_loop(f->event);
        return r;
}

static void name_files(struct fetch *f)
{
        const char *output = f->session->settings.output_path, *slash;
        _cleanup_free_ char *name = xstrndup(f->path, strcspn(f->path, "?#"));
        struct stat st;

        slash = strrchr(name, '/');
        slash = slash && slash[1] && !str_equal(slash, "/.") && !str_equal(slash, "/..") ? slash + 1
                                                                                         : "index";
        if (output && stat(output, &st) == 0 && S_ISDIR(st.st_mode))
                f->output = path_join(output, slash);
        else
                f->output = xstrdup(output ? output : slash);
        f->partial = xasprintf("%s.part", f->output);
        f->validator = xasprintf("%s.part.validator", f->output);
}

int cmd_fetch(struct session *s)
{
        struct fetch f = {.session = s, .path = s->arguments[0], .status = EXIT_FAILURE};
        struct node_settings n = {0};
        struct error e = {0};
        int status = EXIT_SUCCESS;

        if (f.path[0] != '/')
                return session_usage_error(s, "'%s' is no path at the repository; write /debian/…", f.path);
        status = enrolment_load(s, &n);
        if (status != EXIT_SUCCESS)
                return status;
        name_files(&f);
        if (run(&f, &n, &e) < 0)
                f.status = enrolment_fail(s, &e);
        node_transfers_free(f.transfers);
        sd_event_unref(f.event);
        node_settings_done(&n);
        free(f.output);
        free(f.partial);
        free(f.validator);
        return f.status;
}
