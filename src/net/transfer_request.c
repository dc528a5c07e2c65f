/* What is asked of a transfer: checked, copied, and its files opened. */
#include "net/transfer_internal.h"

#include "base/alloc.h"
#include "base/text.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#define DEFAULT_STALL_MS 30000
#define MAX_HEADERS      16

int request_check(const struct transfer_request *r, struct error *ret_error)
{
        if (!r->host || !r->path || r->path[0] != '/' || !r->port)
                return error_set(
                        ret_error, EINVAL, "transfer.bad-request", "host, port and a path are needed");
        for (const char *p = r->path; *p; p++)
                if (*p <= ' ' || *p > '~')
                        return error_set(ret_error, EINVAL, "http.bad-path", "'%.200s' is no path", r->path);
        if (r->sha256 && (strlen(r->sha256) != 64 || strspn(r->sha256, "0123456789abcdef") != 64))
                return error_set(ret_error, EINVAL, "hash.bad", "'%.70s' is no SHA-256", r->sha256);
        if (!r->path_partial && !r->body_path && !r->answer_maximum && !str_equal(r->method, "HEAD"))
                return error_set(
                        ret_error, EINVAL, "transfer.bad-request", "there is no place for the answer");
        return 0;
}

static const char *const *copy_headers(const char *const *headers)
{
        char **copy = xcalloc(MAX_HEADERS + 1, sizeof(*copy));

        for (size_t i = 0; headers && headers[i] && i < MAX_HEADERS; i++)
                copy[i] = xstrdup(headers[i]);
        return (const char *const *)copy;
}

void request_copy(struct transfer_request *to, const struct transfer_request *from)
{
        *to = *from;
        to->method = xstrdup(from->method);
        to->host = xstrdup(from->host);
        to->path = xstrdup(from->path);
        to->headers = copy_headers(from->headers);
        to->path_partial = xstrdup(from->path_partial);
        to->path_final = xstrdup(from->path_final);
        to->path_validator = xstrdup(from->path_validator);
        to->sha256 = xstrdup(from->sha256);
        to->body_path = xstrdup(from->body_path);
        to->stall_ms = from->stall_ms > 0 ? from->stall_ms : DEFAULT_STALL_MS;
        to->mode = from->mode ? from->mode : 0644;
}

static int open_body(struct transfer *t, struct error *ret_error)
{
        struct transfer_request *r = &t->request;
        struct stat st;

        t->body_fd = open(r->body_path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
        if (t->body_fd < 0 || fstat(t->body_fd, &st) < 0)
                return error_set(ret_error, errno, "disk.failed", "%s: %s", r->body_path, strerror(errno));
        if (!S_ISREG(st.st_mode) || r->body_offset > (uint64_t)st.st_size)
                return error_set(ret_error, EINVAL, "disk.failed", "%s has no such part", r->body_path);
        if (r->body_length == 0 || r->body_length > (uint64_t)st.st_size - r->body_offset)
                r->body_length = (uint64_t)st.st_size - r->body_offset;
        t->view.size = r->body_length;
        return 0;
}

int request_open(struct transfer *t, struct error *ret_error)
{
        struct transfer_request *r = &t->request;
        struct error e;

        if (r->body_path && open_body(t, ret_error) < 0)
                return -EINVAL;
        if (r->answer_maximum > 0) {
                t->body = xcalloc(1, r->answer_maximum + 1);
                return 0;
        }
        if (!r->path_partial)
                return 0;
        if (file_open(&t->file, r->mode, r->sha256 && !r->hash_is_callers, &e) < 0) {
                if (ret_error)
                        *ret_error = e;
                return -e.number;
        }
        /* Nothing vouches for what is there. */
        if (t->file.length > 0 && !r->sha256 && !t->file.etag && !t->file.last_modified &&
                file_restart(&t->file, ret_error) < 0)
                return -EIO;
        if (r->size && t->file.length > r->size && file_restart(&t->file, ret_error) < 0)
                return -EIO;
        t->view.bytes = t->view.resumed = t->file.length;
        t->view.size = r->size;
        return 0;
}

void request_free(struct transfer_request *r)
{
        free((char *)r->method);
        free((char *)r->host);
        free((char *)r->path);
        for (size_t i = 0; r->headers && r->headers[i]; i++)
                free((char *)r->headers[i]);
        free((void *)r->headers);
        free((char *)r->path_partial);
        free((char *)r->path_final);
        free((char *)r->path_validator);
        free((char *)r->sha256);
        free((char *)r->body_path);
}
