#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

struct job {
        struct job *next;
        int fd, result;
        void (*on_done)(int result, void *userdata); /* NULL: forgotten */
        void *userdata;
};

struct sync {
        pthread_t thread;
        pthread_mutex_t mutex;
        pthread_cond_t has_work;
        struct job *waiting, **waiting_end, *current, *done, **done_end;
        int wake_fd;
        sd_event_source *io;
        bool is_started, is_ending;
};

static void append(struct job ***end, struct job *j)
{
        j->next = NULL;
        **end = j;
        *end = &j->next;
}

static void *work(void *userdata)
{
        struct sync *s = userdata;
        uint64_t one = 1;

        pthread_mutex_lock(&s->mutex);
        for (;;) {
                struct job *j;

                while (!s->waiting && !s->is_ending)
                        pthread_cond_wait(&s->has_work, &s->mutex);
                if (!s->waiting)
                        break;
                j = s->current = s->waiting;
                s->waiting = j->next;
                if (!s->waiting)
                        s->waiting_end = &s->waiting;
                pthread_mutex_unlock(&s->mutex);
                j->result = fdatasync(j->fd) < 0 ? -errno : 0;
                close(j->fd);
                pthread_mutex_lock(&s->mutex);
                s->current = NULL;
                append(&s->done_end, j);
                /* Only a full counter could block it, and that needs 2^64 of them. */
                if (write(s->wake_fd, &one, sizeof(one)) < 0)
                        continue;
        }
        pthread_mutex_unlock(&s->mutex);
        return NULL;
}

static int on_wake(sd_event_source *source, int fd, uint32_t events, void *userdata)
{
        struct sync *s = userdata;
        uint64_t count;

        (void)source, (void)events;
        if (read(fd, &count, sizeof(count)) < 0 && errno != EAGAIN)
                return -errno;
        for (;;) {
                struct job *j;

                pthread_mutex_lock(&s->mutex);
                j = s->done;
                if (j) {
                        s->done = j->next;
                        if (!s->done)
                                s->done_end = &s->done;
                }
                pthread_mutex_unlock(&s->mutex);
                if (!j)
                        return 0;
                if (j->on_done)
                        j->on_done(j->result, j->userdata);
                free(j);
        }
}

int sync_new(sd_event *event, struct sync **ret)
{
        struct sync *s = xcalloc(1, sizeof(*s));
        int r;

        pthread_mutex_init(&s->mutex, NULL);
        pthread_cond_init(&s->has_work, NULL);
        s->waiting_end = &s->waiting;
        s->done_end = &s->done;
        s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        r = s->wake_fd < 0 ? -errno : sd_event_add_io(event, &s->io, s->wake_fd, EPOLLIN, on_wake, s);
        if (r < 0) {
                sync_free(s);
                return r;
        }
        *ret = s;
        return 0;
}

/* Signals are the loop's: the thread takes none. */
static int start_thread(struct sync *s)
{
        sigset_t all, before;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(&s->thread, NULL, work, s);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        s->is_started = r == 0;
        return -r;
}

int sync_start(struct sync *s, int fd, void (*on_done)(int result, void *userdata), void *userdata)
{
        int r = s->is_started ? 0 : start_thread(s);
        struct job *j;

        if (r < 0)
                return r;
        j = xcalloc(1, sizeof(*j));
        *j = (struct job){.fd = fcntl(fd, F_DUPFD_CLOEXEC, 3), .on_done = on_done, .userdata = userdata};
        if (j->fd < 0) {
                r = -errno;
                free(j);
                return r;
        }
        pthread_mutex_lock(&s->mutex);
        append(&s->waiting_end, j);
        pthread_cond_signal(&s->has_work);
        pthread_mutex_unlock(&s->mutex);
        return 0;
}

static void forget_in(struct job *j, const void *userdata)
{
        for (; j; j = j->next)
                if (j->userdata == userdata)
                        j->on_done = NULL;
}

void sync_forget(struct sync *s, void *userdata)
{
        pthread_mutex_lock(&s->mutex);
        forget_in(s->waiting, userdata);
        forget_in(s->done, userdata);
        if (s->current && s->current->userdata == userdata)
                s->current->on_done = NULL;
        pthread_mutex_unlock(&s->mutex);
}

static void free_jobs(struct job *j)
{
        while (j) {
                struct job *next = j->next;

                free(j);
                j = next;
        }
}

struct sync *sync_free(struct sync *s)
{
        if (!s)
                return NULL;
        if (s->is_started) {
                pthread_mutex_lock(&s->mutex);
                s->is_ending = true;
                pthread_cond_signal(&s->has_work);
                pthread_mutex_unlock(&s->mutex);
                pthread_join(s->thread, NULL);
        }
        free_jobs(s->done);
        sd_event_source_disable_unref(s->io);
        if (s->wake_fd >= 0)
                close(s->wake_fd);
        pthread_cond_destroy(&s->has_work);
        pthread_mutex_destroy(&s->mutex);
        free(s);
        return NULL;
}
