#include "apt/method_internal.h"

#include "apt/answer.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/timer.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define READ_BYTES 16384
#define MOST_ITEMS 64 /* apt sends ten at most and waits; whoever sends more waits, too */

/* ---- speaking ---- */

void method_say(struct method *m, struct text *message)
{
        size_t done = 0;

        while (!m->is_over && done < message->length) {
                ssize_t n = write(STDOUT_FILENO, message->data + done, message->length - done);
                struct pollfd p = {.fd = STDOUT_FILENO, .events = POLLOUT};

                if (n > 0)
                        done += (size_t)n;
                else if (n < 0 && errno == EAGAIN)
                        poll(&p, 1, -1);
                else if (n == 0 || errno != EINTR)
                        method_end(m, METHOD_STATUS_FAILED);
        }
        text_done(message);
}

void method_end(struct method *m, int status)
{
        if (m->is_over)
                return;
        m->is_over = true;
        sd_event_exit(m->event, status);
}

void method_give_up(struct method *m, const char *message)
{
        struct text t = {0};

        apt_message_write(&t, "401 General Failure", "Message", message, NULL);
        method_say(m, &t);
        method_end(m, METHOD_STATUS_FAILED);
}

void method_tell_status(struct method *m, const char *uri, const char *message)
{
        struct text t = {0};

        if (str_equal(message, m->status))
                return;
        free(m->status);
        m->status = xstrdup(message);
        apt_message_write(&t, "102 Status", "URI", uri, "Message", message, NULL);
        method_say(m, &t);
}

static void warn(struct method *m, const char *message)
{
        struct text t = {0};

        apt_message_write(&t, "104 Warning", "Message", message, NULL);
        method_say(m, &t);
}

/* ---- its options ---- */

/* Acquire::gridnode::NAME as a number. */
static bool option_number(struct method *m, const struct apt_message *message, const char *name,
        unsigned long maximum, unsigned long *ret)
{
        _cleanup_free_ char *key = xasprintf("Acquire::gridnode::%s", name),
                            *value = apt_configuration_value(message, key), *text = NULL;

        if (str_is_empty(value))
                return false;
        if (str_to_ulong(value, 0, maximum, ret) == 0)
                return true;
        text = xasprintf("%s: '%.64s' is no number from 0 to %lu", key, value, maximum);
        warn(m, text);
        return false;
}

static void configure(struct method *m, const struct apt_message *message)
{
        _cleanup_free_ char *priority = apt_configuration_value(message, "Acquire::gridnode::Priority"),
                            *text = NULL;
        unsigned long n;

        if (option_number(m, message, "Deadline", 7UL * 86400, &n))
                m->deadline_ms = (double)n * 1000;
        if (option_number(m, message, "Minimum-Rate", 1UL << 30, &n))
                m->minimum_bytes_per_second = n;
        if (str_is_empty(priority) || budget_class_from_string(priority, &m->priority) == 0)
                return;
        text = xasprintf(
                "Acquire::gridnode::Priority: '%.64s' is none of control, logs, updates, images", priority);
        warn(m, text);
}

/* ---- listening ---- */

static int handle(struct method *m, const struct apt_message *message, struct error *ret_error)
{
        switch (message->number) {
        case 600:
                return method_acquire(m, message, ret_error);
        case 601:
                configure(m, message);
                return 0;
        default:
                return 0; /* what a later apt may say */
        }
}

static int handle_all(struct method *m, struct error *ret_error)
{
        int r = 0;

        while (r == 0 && !m->is_over && m->item_count < MOST_ITEMS) {
                struct apt_message message;

                r = apt_message_take(&m->input, &message, ret_error);
                if (r <= 0)
                        return r;
                r = handle(m, &message, ret_error);
                apt_message_done(&message);
        }
        return r;
}

/* Handles what was read, and reads on when there is room for more. */
static void go_on(struct method *m)
{
        struct error e = {0};

        if (handle_all(m, &e) < 0) {
                method_give_up(m, e.text);
                return;
        }
        sd_event_source_set_enabled(m->io, m->item_count < MOST_ITEMS ? SD_EVENT_ON : SD_EVENT_OFF);
}

static int on_room(sd_event_source *source, uint64_t usec, void *userdata)
{
        (void)source, (void)usec;
        go_on(userdata);
        return 0;
}

void method_made_room(struct method *m)
{
        if (m->item_count == MOST_ITEMS - 1)
                timer_arm(m->event, &m->room, 0, on_room, m);
}

static int on_input(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct method *m = userdata;
        char block[READ_BYTES + 1];
        ssize_t n = read(fd, block, READ_BYTES);

        (void)source, (void)events;
        if (n < 0 && (errno == EAGAIN || errno == EINTR))
                return 0;
        if (n <= 0) {
                method_end(m, n < 0 ? METHOD_STATUS_FAILED : 0);
                return 0;
        }
        if (memchr(block, '\0', (size_t)n)) {
                method_give_up(m, "apt's message holds a NUL");
                return 0;
        }
        block[n] = '\0';
        text_add(&m->input, block);
        go_on(m);
        return 0;
}

/* ---- life ---- */

int method_start(struct method *m)
{
        struct text t = {0};
        int r;

        apt_message_write(&t, "100 Capabilities", "Version", "1.2", "Pipeline", "true", "Send-Config", "true",
                "Send-URI-Encoded", "true", NULL);
        method_say(m, &t);
        r = sd_event_add_io(m->event, &m->io, STDIN_FILENO, EPOLLIN, on_input, m);
        if (r < 0)
                method_give_up(m, "standard input is none that apt writes to; apt starts this program");
        return r;
}

static int open_node(struct method *m, const char *root, struct error *ret_error)
{
        struct node_transfers_options o = {.settings = &m->settings, .service = METHOD_SERVICE};
        _cleanup_free_ char *site = NULL, *folder = NULL;
        struct paths paths;
        int r;

        paths_init(&paths, root, "gridnode");
        site = settings_site_path(&paths);
        folder = path_join(paths.run, "transfers");
        paths_done(&paths);
        json_decref(transfer_post_list(folder)); /* what methods of before could not take away goes */
        m->post = transfer_post_open(folder, "apt");
        r = node_settings_load(root, site, &m->settings, ret_error);
        return r < 0 ? r : node_transfers_new(m->event, &o, &m->transfers, ret_error);
}

static void open_cause(struct method *m, const char *root)
{
        _cleanup_free_ char *program = path_of_program("../cli/gridnode", GRIDNODE_BIN_DIR "/gridnode");
        _cleanup_free_ char *ways = path_join(m->settings.paths.run, "ways.json");
        struct cause_options o = {.program = program,
                .root = root,
                .ways_path = ways,
                .service = METHOD_SERVICE,
                .on_answer = method_on_cause,
                .userdata = m};

        m->cause = cause_new(m->event, &o);
}

struct method *method_new(sd_event *event, const char *root)
{
        struct method *m = xcalloc(1, sizeof(*m));

        m->event = sd_event_ref(event);
        m->way_fd = -1;
        m->deadline_ms = METHOD_DEADLINE_MS;
        m->minimum_bytes_per_second = METHOD_MINIMUM_RATE;
        m->priority = BUDGET_UPDATES;
        if (open_node(m, root, &m->broken) == 0)
                open_cause(m, root);
        return m;
}

void method_note_way(struct method *m, const char *path)
{
        m->way_fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0644);
}

struct method *method_free(struct method *m)
{
        if (!m)
                return NULL;
        while (m->items)
                method_item_free(m->items);
        cause_free(m->cause);
        transfer_post_close(m->post);
        if (m->way_fd >= 0)
                close(m->way_fd);
        sd_event_source_disable_unref(m->io);
        sd_event_source_disable_unref(m->room);
        sd_event_source_disable_unref(m->posting);
        node_transfers_free(m->transfers);
        node_settings_done(&m->settings);
        text_done(&m->input);
        free(m->status);
        sd_event_unref(m->event);
        free(m);
        return NULL;
}
