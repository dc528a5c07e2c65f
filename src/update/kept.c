#include "update/kept.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/paths.h"
#include "base/text.h"
#include "update/run.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>

#define PACKAGE         "gridnode"
#define ARCHIVE_MAXIMUM ((size_t)512 << 20)
#define ATTEMPTS        3
#define DPKG_DEB        "/usr/bin/dpkg-deb"

char *kept_path(const char *folder, const char *version, const char *architecture)
{
        struct text t = {0};

        text_addf(&t, "%s/" PACKAGE "_", folder);
        for (; *version; version++)
                if (*version == ':')
                        text_add(&t, "%3a");
                else
                        text_addf(&t, "%c", *version == '/' ? '_' : *version);
        text_addf(&t, "_%s.deb", architecture);
        return text_take(&t);
}

char *kept_find(const char *folder, const struct dpkg_package *p)
{
        _cleanup_free_ char *path = kept_path(folder, p->version, p->architecture), *without = NULL;
        const char *colon = strchr(p->version, ':');

        if (access(path, R_OK) == 0)
                return TAKE_PTR(path);
        /* dpkg-repack leaves the epoch out. */
        without = colon ? kept_path(folder, colon + 1, p->architecture) : NULL;
        return without && access(without, R_OK) == 0 ? TAKE_PTR(without) : NULL;
}

char *kept_find_version(const char *folder, const char *version)
{
        _cleanup_free_ char *path = kept_path(folder, version, ""), *prefix = NULL;
        _cleanup_closedir_ DIR *d = opendir(folder);
        const struct dirent *entry;

        /* "gridnode_1.0_.deb" without its end. */
        prefix = xstrndup(strrchr(path, '/') + 1, strlen(strrchr(path, '/') + 1) - strlen(".deb"));
        while (d && (entry = readdir(d)))
                if (str_starts_with(entry->d_name, prefix) && str_ends_with(entry->d_name, ".deb"))
                        return path_join(folder, entry->d_name);
        return NULL;
}

int kept_put(const char *from, const char *to)
{
        _cleanup_free_ char *data = NULL;
        size_t length;
        int r = file_read(from, ARCHIVE_MAXIMUM, &data, &length, NULL);

        return r < 0 ? r : file_save(to, data, length, 0644, NULL);
}

/* Its exit status, with what it printed at the beginning, if anybody wants it. */
static int run_once(const char *const *arguments, char *ret, size_t size)
{
        int output[2], status = 0;
        size_t length = 0;
        char rest[4096];
        ssize_t n;
        pid_t pid;

        if (pipe2(output, O_CLOEXEC) < 0)
                return -errno;
        pid = fork();
        if (pid == 0) {
                int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
                char *environment[] = {"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", NULL};

                if (dup2(nothing, 0) < 0 || dup2(output[1], 1) < 0 || dup2(nothing, 2) < 0)
                        _exit(127);
                execve(arguments[0], (char *const *)arguments, environment);
                _exit(127);
        }
        close(output[1]);
        while (pid > 0 && (n = read(output[0], rest, sizeof rest)) > 0)
                for (ssize_t i = 0; i < n; i++)
                        if (length + 1 < size)
                                ret[length++] = rest[i];
        if (size)
                ret[length] = '\0';
        close(output[0]);
        if (pid < 0)
                return -errno;
        while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
                ;
        return WIFEXITED(status) ? WEXITSTATUS(status) : RUN_SIGNAL + WTERMSIG(status);
}

/* Somebody may have killed it, or what it runs, which it tells as any other failure: that says nothing of the
 * archive. */
static int run(const char *const *arguments, char *ret, size_t size)
{
        int r = run_once(arguments, ret, size);

        for (unsigned i = 1; r > 0 && i < ATTEMPTS; i++)
                r = run_once(arguments, ret, size);
        return r;
}

int kept_verify(const char *path, const char *version)
{
        const char *const field[] = {DPKG_DEB, "--field", path, "Version", NULL}, *const contents[] = {
                                                                                          DPKG_DEB,
                                                                                          "--fsys-tarfile",
                                                                                          path, NULL};
        char said[128];

        if (run(field, said, sizeof said) != 0)
                return -EBADMSG;
        said[strcspn(said, "\r\n")] = '\0';
        /* All of it is unpacked, so that an archive that was cut is none. */
        return str_equal(said, version) && run(contents, NULL, 0) == 0 ? 0 : -EBADMSG;
}

static void remove_files(const char *folder, const char *const *but)
{
        _cleanup_closedir_ DIR *d = opendir(folder);
        const struct dirent *entry;

        while (d && (entry = readdir(d))) {
                _cleanup_free_ char *path = path_join(folder, entry->d_name);
                bool stays = entry->d_name[0] == '.' || entry->d_type == DT_DIR;

                for (size_t i = 0; but && but[i]; i++)
                        stays = stays || str_equal(path, but[i]);
                if (!stays)
                        unlinkat(dirfd(d), entry->d_name, 0);
        }
}

void kept_clear(const char *folder)
{
        remove_files(folder, NULL);
}

void kept_prune(const char *folder, const char *version, const char *other, const char *architecture)
{
        _cleanup_free_ char *one = kept_path(folder, version, architecture),
                            *two = kept_path(folder, other, architecture);
        const char *const but[] = {one, two, NULL};

        remove_files(folder, but);
}
