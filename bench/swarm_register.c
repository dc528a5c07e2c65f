/* swarm-register ROOT FOLDER COUNT: makes COUNT registered nodes in the state of a control plane that does
 * not run, as `gridplane node create` and a registration would, in one transaction. FOLDER gets root.pem and
 * for each node NUMBER.id, NUMBER.crt and NUMBER.key. */
#include "base/alloc.h"
#include "base/cleanup.h"
#include "base/file.h"
#include "base/folder.h"
#include "base/paths.h"
#include "plane/ca.h"
#include "plane/store.h"

#include <errno.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

DEFINE_CLEANUP(BIO *, BIO_free_all);
DEFINE_CLEANUP(EVP_PKEY *, EVP_PKEY_free);
DEFINE_CLEANUP(X509_REQ *, X509_REQ_free);

struct work {
        struct ca *ca;
        struct plane_store *store;
        struct actor by;
        char organisation[65];
        const char *folder;
        int64_t now_ms;
};

static void write_file(const char *folder, unsigned number, const char *suffix, const char *text)
{
        _cleanup_free_ char *path = xasprintf("%s/%u.%s", folder, number, suffix);
        FILE *f = fopen(path, "we");

        /* A load program: what it cannot write it cannot do without. */
        if (!f || fputs(text, f) < 0 || fclose(f) != 0) {
                perror(path);
                exit(74);
        }
}

static char *text_of(BIO *bio)
{
        char *data;
        long length = BIO_get_mem_data(bio, &data);

        return xstrndup(data, (size_t)length);
}

/* A new key and a request for it. */
static void make_request(char **ret_key, char **ret_csr)
{
        _cleanup_(EVP_PKEY_free_p) EVP_PKEY *key = EVP_EC_gen("P-256");
        _cleanup_(X509_REQ_free_p) X509_REQ *csr = X509_REQ_new();
        _cleanup_(BIO_free_all_p) BIO *keys = BIO_new(BIO_s_mem()), *csrs = BIO_new(BIO_s_mem());

        if (!key || X509_REQ_set_pubkey(csr, key) != 1 || X509_REQ_sign(csr, key, EVP_sha256()) <= 0 ||
                PEM_write_bio_PKCS8PrivateKey(keys, key, NULL, NULL, 0, NULL, NULL) != 1 ||
                PEM_write_bio_X509_REQ(csrs, csr) != 1)
                abort();
        *ret_key = text_of(keys);
        *ret_csr = text_of(csrs);
}

static int add_node(struct work *w, unsigned number, struct error *e)
{
        _cleanup_free_ char *key = NULL, *csr = NULL, *pem = NULL;
        char name[32], site[32], id[65], token[64], serial[65];
        struct ca_request request;
        struct plane_node node;
        int64_t expires, not_after;
        int r;

        make_request(&key, &csr);
        snprintf(name, sizeof name, "swarm-%u", number);
        snprintf(site, sizeof site, "site-%u", number / 8);
        r = plane_node_create(
                w->store, &w->by, w->organisation, name, site, w->now_ms, id, token, &expires, e);
        if (r == 0)
                r = ca_check_csr(csr, &request, e);
        if (r == 0)
                r = plane_node_redeem(w->store, token, request.public_key_sha256, w->now_ms, &node, e);
        if (r == 0)
                r = ca_issue_node(w->ca, csr, node.id, node.organisation, w->now_ms / 1000, &pem, serial,
                        &not_after, e);
        if (r == 0)
                r = plane_certificate_add(w->store, node.id, serial, request.public_key_sha256,
                        not_after * 1000, pem, w->now_ms, e);
        if (r < 0)
                return r;
        write_file(w->folder, number, "id", id);
        write_file(w->folder, number, "crt", pem);
        write_file(w->folder, number, "key", key);
        return 0;
}

static int add_all(struct work *w, unsigned count, struct error *e)
{
        struct db *db = plane_store_db(w->store);
        int r = plane_org_find(w->store, ORGANISATION_DEFAULT, w->organisation, e);

        if (r == 0)
                r = db_begin(db, e);
        for (unsigned i = 0; i < count && r >= 0; i++)
                r = add_node(w, i, e);
        return r < 0 ? r : db_commit(db, e);
}

int main(int argc, char **argv)
{
        struct work w = {
                .by = {.name = "local:root", .role = ROLE_ADMIN}, .now_ms = (int64_t)time(NULL) * 1000};
        _cleanup_free_ char *ca = NULL, *db = NULL, *root = NULL;
        struct paths paths;
        struct error e = {0};
        int r;

        if (argc != 4) {
                fprintf(stderr, "Usage: swarm-register ROOT FOLDER COUNT\n");
                return 64;
        }
        paths_init(&paths, argv[1], "gridplane");
        ca = path_join(paths.state, "ca");
        db = path_join(paths.state, "plane.db");
        root = path_join(argv[2], "root.pem");
        w.folder = argv[2];
        r = folder_prepare(paths.state, 0700, &e);
        if (r >= 0)
                r = folder_prepare(argv[2], 0700, &e);
        if (r >= 0)
                r = ca_open(ca, time(NULL), &w.ca, &e);
        if (r >= 0)
                r = plane_store_open(db, &w.store, &e);
        if (r >= 0)
                r = add_all(&w, (unsigned)strtoul(argv[3], NULL, 10), &e);
        if (r >= 0)
                r = file_save(root, ca_root_pem(w.ca), strlen(ca_root_pem(w.ca)), 0644, &e);
        if (r < 0)
                fprintf(stderr, "swarm-register: %s\n", e.text);
        plane_store_close(w.store);
        ca_free(w.ca);
        paths_done(&paths);
        return r < 0 ? 1 : 0;
}
