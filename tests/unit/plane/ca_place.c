#include "ca_place.h"

#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/rsa.h>
#include <openssl/x509v3.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include <cmocka.h>

extern char **environ;

void run(char *const arguments[], int expected)
{
        posix_spawn_file_actions_t actions;
        pid_t pid;
        int status;

        posix_spawn_file_actions_init(&actions);
        posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
        posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0);
        assert_int_equal(posix_spawnp(&pid, arguments[0], &actions, NULL, arguments, environ), 0);
        posix_spawn_file_actions_destroy(&actions);
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        assert_int_equal(WEXITSTATUS(status), expected);
}

int make_place(void **state)
{
        struct place *p = xcalloc(1, sizeof(*p));

        strcpy(p->base, "/tmp/gridnode-test-ca-XXXXXX");
        assert_non_null(mkdtemp(p->base));
        snprintf(p->ca, sizeof(p->ca), "%s/ca", p->base);
        *state = p;
        return 0;
}

int remove_place(void **state)
{
        struct place *p = *state;

        run((char *[]){"rm", "-rf", p->base, NULL}, 0);
        free(p);
        return 0;
}

struct ca *open_at(const struct place *p, int64_t now)
{
        struct error e = {0};
        struct ca *c = NULL;

        if (ca_open(p->ca, now, &c, &e) < 0)
                fail_msg("%s: %s", e.code, e.text);
        return c;
}

void fail_open(const struct place *p, int64_t now, int number, const char *code)
{
        struct error e = {0};
        struct ca *c = NULL;

        assert_int_equal(ca_open(p->ca, now, &c, &e), -number);
        assert_string_equal(e.code, code);
        assert_null(c);
}

char *inside(const struct place *p, const char *name)
{
        static char path[8][160];
        static unsigned next;
        char *ret = path[next++ % 8];

        snprintf(ret, 160, "%s/%s", p->ca, name);
        return ret;
}

char *read_all(const char *path)
{
        struct error e = {0};
        char *text;

        if (file_read(path, 1 << 20, &text, NULL, &e) < 0)
                fail_msg("%s", e.text);
        return text;
}

unsigned mode_of(const char *path)
{
        struct stat st;

        assert_int_equal(lstat(path, &st), 0);
        return st.st_mode & 07777;
}

unsigned count(const char *text, const char *what)
{
        unsigned n = 0;

        for (const char *s = text; (s = strstr(s, what)); s++)
                n++;
        return n;
}

/* ---- requests of nodes ---- */

static char *bio_text(BIO *b)
{
        char *data;
        long length = BIO_get_mem_data(b, &data);
        char *text = xstrndup(data, (size_t)length);

        BIO_free(b);
        return text;
}

char *csr_of(EVP_PKEY *key, EVP_PKEY *signed_by, const char *common_name)
{
        X509_REQ *r = X509_REQ_new();
        BIO *b = BIO_new(BIO_s_mem());

        X509_NAME_add_entry_by_txt(X509_REQ_get_subject_name(r), "CN", MBSTRING_UTF8,
                (const unsigned char *)common_name, -1, -1, 0);
        assert_int_equal(X509_REQ_set_pubkey(r, key), 1);
        assert_true(X509_REQ_sign(r, signed_by, EVP_sha256()) > 0);
        PEM_write_bio_X509_REQ(b, r);
        X509_REQ_free(r);
        return bio_text(b);
}

X509 *first_certificate(const char *pem)
{
        BIO *b = BIO_new_mem_buf(pem, -1);
        X509 *x = PEM_read_bio_X509(b, NULL, NULL, NULL);

        BIO_free(b);
        assert_non_null(x);
        return x;
}

struct issued issue(struct ca *c, const char *node, int64_t now)
{
        struct issued i = {.key = EVP_EC_gen("P-256")};
        struct error e = {0};

        i.csr = csr_of(i.key, i.key, "whatever it likes");
        if (ca_issue_node(c, i.csr, node, "o-one", now, &i.pem, i.serial, &i.not_after, &e) < 0)
                fail_msg("%s", e.text);
        return i;
}

void issued_done(struct issued *i)
{
        EVP_PKEY_free(i->key);
        free(i->csr);
        free(i->pem);
}

void save(const char *path, const char *text)
{
        assert_int_equal(file_save(path, text, strlen(text), 0600, NULL), 0);
}
