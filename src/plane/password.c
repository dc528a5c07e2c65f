#include "plane/password.h"

#include "base/alloc.h"
#include "base/cleanup.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <sodium.h>
#include <string.h>
#include <sys/eventfd.h>

#define MIN_BYTES   12
#define MAX_BYTES   1024
#define MAX_WAITING 64

struct job {
        char *password;
        char hash[crypto_pwhash_STRBYTES]; /* verify: the known one, or ""; hash: the result, or "" */
        bool is_verify, right;
        void (*on_hash)(const char *hash, void *userdata);
        void (*on_verified)(bool right, void *userdata);
        void *userdata;
        struct job *next;
};
struct queue {
        struct job *first, **last;
};

struct passwords {
        sd_event_source *source;
        int done_fd; /* an eventfd: something is done */
        pthread_t thread;
        bool has_thread;
        pthread_mutex_t lock; /* of all below */
        pthread_cond_t wake;
        struct queue waiting, done;
        size_t count; /* in both, and under way */
        bool ends;
};

static void push(struct queue *q, struct job *j)
{
        j->next = NULL;
        *q->last = j;
        q->last = &j->next;
}

static struct job *pop(struct queue *q)
{
        struct job *j = q->first;

        if (!j)
                return NULL;
        q->first = j->next;
        if (!q->first)
                q->last = &q->first;
        return j;
}

static void job_free(struct job *j)
{
        if (j->password)
                sodium_memzero(j->password, strlen(j->password));
        free(j->password);
        sodium_memzero(j->hash, sizeof j->hash);
        free(j);
}

/* ---- the thread ---- */

/* The same work as for a user that exists. */
static void waste(const char *password)
{
        unsigned char key[32], salt[crypto_pwhash_SALTBYTES] = {0};

        if (crypto_pwhash(key, sizeof key, password, strlen(password), salt,
                    crypto_pwhash_OPSLIMIT_INTERACTIVE, crypto_pwhash_MEMLIMIT_INTERACTIVE,
                    crypto_pwhash_ALG_ARGON2ID13) == 0)
                sodium_memzero(key, sizeof key);
}

static void work(struct job *j)
{
        if (j->is_verify && !j->hash[0])
                waste(j->password);
        else if (j->is_verify)
                j->right = crypto_pwhash_str_verify(j->hash, j->password, strlen(j->password)) == 0;
        else if (crypto_pwhash_str(j->hash, j->password, strlen(j->password),
                         crypto_pwhash_OPSLIMIT_INTERACTIVE, crypto_pwhash_MEMLIMIT_INTERACTIVE) != 0)
                j->hash[0] = 0; /* no memory */
}

static void *run(void *userdata)
{
        struct passwords *p = userdata;
        struct job *j;

        pthread_mutex_lock(&p->lock);
        while (!p->ends) {
                j = pop(&p->waiting);
                if (!j) {
                        pthread_cond_wait(&p->wake, &p->lock);
                        continue;
                }
                pthread_mutex_unlock(&p->lock);
                work(j);
                pthread_mutex_lock(&p->lock);
                push(&p->done, j);
                eventfd_write(p->done_fd, 1);
        }
        pthread_mutex_unlock(&p->lock);
        return NULL;
}

/* ---- the loop's side ---- */

static struct job *take_done(struct passwords *p)
{
        struct job *j;

        pthread_mutex_lock(&p->lock);
        j = pop(&p->done);
        if (j)
                p->count--;
        pthread_mutex_unlock(&p->lock);
        return j;
}

/* One a turn: its callback may end the passwords. */
static int on_done(sd_event_source *source, int fd, uint32_t revents, void *userdata)
{
        struct job *j = take_done(userdata);
        eventfd_t one;

        (void)source;
        (void)revents;
        if (eventfd_read(fd, &one) < 0 || !j)
                return 0;
        if (j->is_verify)
                j->on_verified(j->right, j->userdata);
        else
                j->on_hash(j->hash[0] ? j->hash : NULL, j->userdata);
        job_free(j);
        return 0;
}

/* Signals are the loop's. */
static int start(struct passwords *p)
{
        sigset_t all, before;
        int r;

        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        r = pthread_create(&p->thread, NULL, run, p);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
        p->has_thread = r == 0;
        return -r;
}

DEFINE_CLEANUP(struct passwords *, passwords_free);

int passwords_new(sd_event *event, struct passwords **ret)
{
        _cleanup_(passwords_free_p) struct passwords *p = xcalloc(1, sizeof *p);
        int r;

        p->waiting.last = &p->waiting.first;
        p->done.last = &p->done.first;
        pthread_mutex_init(&p->lock, NULL);
        pthread_cond_init(&p->wake, NULL);
        p->done_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK | EFD_SEMAPHORE);
        if (p->done_fd < 0)
                return -errno;
        if (sodium_init() < 0)
                return -EIO;
        r = sd_event_add_io(event, &p->source, p->done_fd, EPOLLIN, on_done, p);
        if (r >= 0)
                r = start(p);
        if (r < 0)
                return r;
        *ret = TAKE_PTR(p);
        return 0;
}

static void drop(struct queue *q)
{
        struct job *j;

        while ((j = pop(q)))
                job_free(j);
}

struct passwords *passwords_free(struct passwords *p)
{
        if (!p)
                return NULL;
        if (p->has_thread) {
                pthread_mutex_lock(&p->lock);
                p->ends = true;
                pthread_cond_signal(&p->wake);
                pthread_mutex_unlock(&p->lock);
                pthread_join(p->thread, NULL);
        }
        drop(&p->waiting);
        drop(&p->done);
        sd_event_source_disable_unref(p->source);
        if (p->done_fd >= 0)
                close(p->done_fd);
        pthread_cond_destroy(&p->wake);
        pthread_mutex_destroy(&p->lock);
        free(p);
        return NULL;
}

static int add(struct passwords *p, const struct job *wanted, const char *password, const char *hash)
{
        struct job *j;
        int r = 0;

        pthread_mutex_lock(&p->lock);
        if (p->count >= MAX_WAITING) {
                r = -EAGAIN;
        } else {
                j = xmalloc(sizeof *j);
                *j = *wanted;
                j->password = xstrdup(password);
                memset(j->hash, 0, sizeof j->hash);
                if (hash)
                        memcpy(j->hash, hash, strlen(hash));
                push(&p->waiting, j);
                p->count++;
                pthread_cond_signal(&p->wake);
        }
        pthread_mutex_unlock(&p->lock);
        return r;
}

int passwords_hash(struct passwords *p, const char *password, void (*done)(const char *hash, void *userdata),
        void *userdata)
{
        const struct job j = {.on_hash = done, .userdata = userdata};
        int r = password_is_acceptable(password, NULL);

        return r < 0 ? r : add(p, &j, password, NULL);
}

int passwords_verify(struct passwords *p, const char *password, const char *hash,
        void (*done)(bool right, void *userdata), void *userdata)
{
        const struct job j = {.is_verify = true, .on_verified = done, .userdata = userdata};

        /* What cannot be anybody's takes as long. */
        if (strnlen(password, MAX_BYTES + 1) > MAX_BYTES) {
                password = "";
                hash = NULL;
        }
        if (hash && strnlen(hash, crypto_pwhash_STRBYTES) >= crypto_pwhash_STRBYTES)
                hash = NULL;
        return add(p, &j, password, hash);
}

int password_is_acceptable(const char *password, struct error *ret_error)
{
        size_t length = strnlen(password, MAX_BYTES + 1);

        if (length < MIN_BYTES)
                return error_set(ret_error, EINVAL, "password.short",
                        "the password has %zu bytes, fewer than %d; use several words", length, MIN_BYTES);
        if (length > MAX_BYTES)
                return error_set(
                        ret_error, EINVAL, "password.long", "the password has more than %d bytes", MAX_BYTES);
        return 0;
}

int64_t password_delay_ms(int64_t failures)
{
        int64_t delay_ms = PASSWORD_FIRST_DELAY_MS;

        if (failures < PASSWORD_FREE_FAILURES)
                return 0;
        for (int64_t i = PASSWORD_FREE_FAILURES; i < failures && delay_ms < PASSWORD_LONGEST_DELAY_MS; i++)
                delay_ms *= 2;
        return delay_ms < PASSWORD_LONGEST_DELAY_MS ? delay_ms : PASSWORD_LONGEST_DELAY_MS;
}
