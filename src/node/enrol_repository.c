/* What root must believe of the repository of packages: its keyring, and apt's source. Registration becomes
 * another user before it asks the control plane; so a child stays root, waits for the answer, writes these
 * two files and nothing else. */
#include "node/enrol_internal.h"

#include "base/alloc.h"
#include "base/file.h"
#include "base/folder.h"

#include <errno.h>
#include <openssl/evp.h>
#include <openssl/sha.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define KEYRING_NAME      "repo-keyring.gpg"
#define SOURCES_NAME      "sources.list.d/gridnode.sources"
#define QUESTION_MAXIMUM  ((size_t)128 << 10)
#define SOURCES_MAX_BYTES ((size_t)64 << 10)
#define HTTPS_PORT        443
#define MARK              "# Written by 'gridnode register', which leaves it alone when it was changed: "
#define HASH_TEXT         (2 * SHA256_DIGEST_LENGTH + 1)

struct enrol_repository {
        pid_t pid;
        int fd;
};

struct answer { /* from the same program */
        struct error error;
        char note[sizeof(((struct error *)NULL)->text)];
};

/* ---- the text ---- */

static void hash_of(const char *text, char ret[HASH_TEXT])
{
        unsigned char hash[SHA256_DIGEST_LENGTH];

        SHA256((const unsigned char *)text, strlen(text), hash);
        hex_format(hash, sizeof(hash), ret);
}

char *enrol_repository_sources(const char *host, uint16_t port, const char *keyring_path)
{
        struct text t = {0};
        char hash[HASH_TEXT], *whole;

        text_addf(&t, "Types: deb\nURIs: gridnode://%s", host);
        if (port != HTTPS_PORT)
                text_addf(&t, ":%u", port);
        text_addf(&t, "/debian\nSuites: stable\nComponents: main\nSigned-By: %s\n", keyring_path);
        hash_of(text_string(&t), hash);
        whole = xasprintf(MARK "%s\n%s", hash, text_string(&t));
        text_done(&t);
        return whole;
}

bool enrol_repository_is_ours(const char *sources)
{
        char hash[HASH_TEXT];
        size_t mark = strlen(MARK);

        if (!str_starts_with(sources, MARK) || strlen(sources) < mark + HASH_TEXT ||
                sources[mark + HASH_TEXT - 1] != '\n')
                return false;
        hash_of(sources + mark + HASH_TEXT, hash);
        return strncmp(sources + mark, hash, HASH_TEXT - 1) == 0;
}

/* ---- the child ---- */

static int save_keyring(const struct paths *p, const char *base64, struct error *ret_error)
{
        _cleanup_free_ char *path = path_join(p->etc, KEYRING_NAME);
        size_t length = strlen(base64);
        _cleanup_free_ unsigned char *data = xmalloc(length / 4 * 3 + 1);
        int decoded = EVP_DecodeBlock(data, (const unsigned char *)base64, (int)length), r;

        if (decoded < 0)
                return error_set(ret_error, EBADMSG, "identity.wrong", "the keyring is not base64");
        for (size_t i = length; i > 0 && base64[i - 1] == '='; i--)
                decoded--;
        r = folder_prepare(p->etc, 0755, ret_error);
        return r < 0 ? r : file_save(path, data, (size_t)decoded, 0644, ret_error);
}

static int save_sources(const struct paths *p, const char *host, uint16_t port, struct answer *a)
{
        _cleanup_free_ char *apt = file_beside(p->etc, "apt"), *path = path_join(apt, SOURCES_NAME),
                            *folder = path_join(apt, "sources.list.d"),
                            *keyring = path_join(p->etc, KEYRING_NAME),
                            *text = enrol_repository_sources(host, port, keyring), *there = NULL;
        struct stat st;
        size_t length;
        int r;

        if (stat(apt, &st) < 0 || !S_ISDIR(st.st_mode))
                return 0; /* no apt here */
        r = file_read(path, SOURCES_MAX_BYTES, &there, &length, &a->error);
        if (r == 0 && !enrol_repository_is_ours(there)) {
                snprintf(a->note, sizeof(a->note),
                        "%s was changed by hand and is left alone; as it would be written now it has URIs: "
                        "gridnode://%s/debian, Suites: stable, Signed-By: %s",
                        path, host, keyring);
                return 0;
        }
        if (r < 0 && r != -ENOENT)
                return r;
        a->error = (struct error){0};
        if (mkdir(folder, 0755) < 0 && errno != EEXIST)
                return error_set(&a->error, errno, "file.unwritable", "cannot make the folder %s: %s", folder,
                        strerror(errno));
        return file_save(path, text, strlen(text), 0644, &a->error);
}

/* "HOST\0PORT\0KEYRING\0", whole; or nothing, where registration failed. */
static void work(const struct paths *p, int fd)
{
        _cleanup_free_ char *question = xcalloc(1, QUESTION_MAXIMUM + 1);
        const char *fields[3] = {0}, *at = question;
        struct answer a = {0};
        unsigned long port;
        size_t length = 0;
        ssize_t n;

        while (length < QUESTION_MAXIMUM &&
                (n = recv(fd, question + length, QUESTION_MAXIMUM - length, 0)) > 0)
                length += (size_t)n;
        for (size_t i = 0; i < ELEMENTS(fields); i++) {
                const char *end = memchr(at, '\0', length - (size_t)(at - question));

                if (!end)
                        return;
                fields[i] = at;
                at = end + 1;
        }
        if (str_to_ulong(fields[1], 1, UINT16_MAX, &port) < 0 || !str_is_host_name(fields[0]))
                error_set(&a.error, EINVAL, "identity.wrong", "the repository's host is none");
        else if (save_keyring(p, fields[2], &a.error) == 0)
                save_sources(p, fields[0], (uint16_t)port, &a);
        a.error.code = NULL; /* an address of this process */
        send(fd, &a, sizeof(a), MSG_NOSIGNAL);
}

/* ---- the parent ---- */

int enrol_repository_begin(const struct paths *p, struct enrol_repository **ret, struct error *ret_error)
{
        struct enrol_repository *w;
        int fds[2];
        pid_t pid;

        if (geteuid() != 0)
                return 0;
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds) < 0)
                return error_set(ret_error, errno, "repository.writer", "no socket for root's child: %s",
                        strerror(errno));
        pid = fork();
        if (pid < 0) {
                int number = errno;

                close(fds[0]);
                close(fds[1]);
                return error_set(ret_error, number, "repository.writer", "root's child cannot be started: %s",
                        strerror(number));
        }
        if (pid == 0) {
                close(fds[0]);
                signal(SIGPIPE, SIG_IGN);
                work(p, fds[1]);
                _exit(0);
        }
        close(fds[1]);
        w = xcalloc(1, sizeof(*w));
        w->pid = pid;
        w->fd = fds[0];
        *ret = w;
        return 0;
}

static bool send_all(int fd, const void *data, size_t length)
{
        for (const char *at = data; length > 0;) {
                ssize_t n = send(fd, at, length, MSG_NOSIGNAL);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return false;
                at += n;
                length -= (size_t)n;
        }
        return true;
}

int enrol_repository_write(struct enrol_repository *w, const char *keyring_base64, const char *host,
        uint16_t port, char **ret_note, struct error *ret_error)
{
        struct answer a = {0};
        char number[8];
        ssize_t n;

        snprintf(number, sizeof(number), "%u", port);
        if (!send_all(w->fd, host, strlen(host) + 1) || !send_all(w->fd, number, strlen(number) + 1) ||
                !send_all(w->fd, keyring_base64, strlen(keyring_base64) + 1) || shutdown(w->fd, SHUT_WR) < 0)
                return error_set(ret_error, errno, "repository.writer", "root's child does not listen: %s",
                        strerror(errno));
        n = recv(w->fd, &a, sizeof(a), MSG_WAITALL);
        if (n != (ssize_t)sizeof(a))
                return error_set(
                        ret_error, EPIPE, "repository.writer", "root's child ended without an answer");
        a.error.text[sizeof(a.error.text) - 1] = a.note[sizeof(a.note) - 1] = '\0';
        if (a.error.number)
                return error_set(ret_error, a.error.number, "repository.unwritable", "%s", a.error.text);
        *ret_note = a.note[0] ? xstrdup(a.note) : NULL;
        return 0;
}

struct enrol_repository *enrol_repository_end(struct enrol_repository *w)
{
        if (!w)
                return NULL;
        close(w->fd);
        while (waitpid(w->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        free(w);
        return NULL;
}
