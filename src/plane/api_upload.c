/* A body that is a package: to a file as it comes, its hash counted on the way. */
#include "plane/api_internal.h"

#include "base/alloc.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <unistd.h>

struct upload {
        char *path; /* NULL: taken */
        int fd;
        EVP_MD_CTX *hash;
        int64_t size_bytes;
};

void api_upload_free(struct upload *u)
{
        if (!u)
                return;
        if (u->fd >= 0)
                close(u->fd);
        if (u->path)
                unlink(u->path);
        EVP_MD_CTX_free(u->hash);
        free(u->path);
        free(u);
}

static bool cannot_write(struct exchange *x, const char *path)
{
        struct error e = {0};
        int number = errno;

        error_set(&e, number, "repository.file", "cannot write %s: %s", path, strerror(number));
        api_problem_error(x, -number, &e);
        return false;
}

static bool begin(struct exchange *x)
{
        struct packages *packages = x->api->options.packages;
        struct upload *u;
        struct error e = {0};
        char *path;
        int r;

        if (!packages) {
                api_problem(x, MHD_HTTP_SERVICE_UNAVAILABLE, "repository.missing",
                        "this control plane keeps no packages");
                return false;
        }
        r = packages_incoming(packages, x->organisation, &path, &e);
        if (r < 0) {
                api_problem_error(x, r, &e);
                return false;
        }
        u = x->upload = xcalloc(1, sizeof *u);
        u->path = path;
        u->hash = EVP_MD_CTX_new();
        EVP_DigestInit_ex(u->hash, EVP_sha256(), NULL);
        u->fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        return u->fd >= 0 || cannot_write(x, path);
}

static bool take(struct exchange *x, const char *data, size_t length)
{
        struct upload *u = x->upload;

        EVP_DigestUpdate(u->hash, data, length);
        u->size_bytes += (int64_t)length;
        while (length > 0) {
                ssize_t n = write(u->fd, data, length);

                if (n < 0 && errno == EINTR)
                        continue;
                if (n <= 0)
                        return cannot_write(x, u->path);
                data += n;
                length -= (size_t)n;
        }
        return true;
}

char *api_upload_take(struct exchange *x, char ret_sha256[65], int64_t *ret_size_bytes)
{
        struct upload *u = x->upload;
        unsigned char hash[EVP_MAX_MD_SIZE];
        unsigned length = 0;

        if (u->size_bytes == 0) {
                api_problem(x, MHD_HTTP_BAD_REQUEST, "body.missing",
                        "the package is missing: send it as the body");
                return NULL;
        }
        EVP_DigestFinal_ex(u->hash, hash, &length);
        hex_format(hash, length, ret_sha256);
        *ret_size_bytes = u->size_bytes;
        close(u->fd);
        u->fd = -1;
        return TAKE_PTR(u->path);
}

static const char *const types[] = {
        "application/vnd.debian.binary-package", "application/octet-stream", NULL};
const struct body_sink api_upload_sink = {.types = types, .begin = begin, .take = take};
