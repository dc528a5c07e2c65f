/* The API over real HTTP on its Unix sockets, with a real store and CA below it. Broker and services are
 * played: what they are asked is kept for the test to look at. */
#pragma once

#include "plane/api_internal.h"

#include <openssl/evp.h>

struct played { /* what was asked of the parts that are not there */
        bool broker_is_away;
        char node[65]; /* of the last question */
        int requests, cancels, notices, expelled, revoked;
        char request[65]; /* id of the last one */
        int64_t version;  /* of the last notice */
        const char *service_state;
};
extern struct played played;

struct world {
        char folder[64];
        sd_event *event;
        struct plane_settings settings;
        struct plane_store *store;
        struct ca *ca;
        struct passwords *passwords;
        struct requests *requests;
        struct packages *packages; /* NULL unless world_keeps_packages */
        struct api *api;
        char organisation[65], other[65]; /* "default", "other" */
        char viewer[64], operator[64], admin[64],
                stranger[64]; /* API tokens; the last is an admin of "other" */
};
/* Set before world_setup: there is a repository of packages, with the real reprepro and gpg. */
extern bool world_keeps_packages;
/* For cmocka: a world a test. */
int world_setup(void **state);
int world_teardown(void **state);
extern const struct actor world_machine; /* the machine's own administrator */

struct ask {
        const char *method, *path;
        const char *token; /* bearer; NULL: none */
        const char *body;  /* sent as application/json unless `type`; NULL: none */
        const char *type;
        size_t body_length; /* 0: of the text */
        const char *headers[8];
        bool local; /* admin.sock */
};
/* ASK("GET", "/path", .token = …) */
#define ASK(m, p, ...)                                    \
        &(struct ask)                                     \
        {                                                 \
                .method = (m), .path = (p), ##__VA_ARGS__ \
        }

struct answer {
        long status;          /* 0: no answer */
        char *headers, *body; /* never NULL */
        json_t *json;         /* NULL: none */
};
/* Asks from a thread while this one runs the loop. */
struct answer world_ask(struct world *w, const struct ask *q);
void answer_done(struct answer *a);
/* The shape of a problem and its code are as they should be; ends the answer. */
void assert_problem(struct answer a, long status, const char *code);
/* Asks, wants this status, gives the JSON (the caller's; NULL when there is none). */
json_t *world_get(struct world *w, long status, const struct ask *q);
const char *text_of(const json_t *o, const char *name); /* asserts */
/* The value of a header, borrowed until the next call; NULL. */
const char *answer_header(const struct answer *a, const char *name);

/* Bytes over a connection of one's own, while the loop runs. */
int raw_open(struct world *w, bool local);
void raw_send(struct world *w, int fd, const char *bytes, size_t length);
/* What comes until it contains `needle`, the other side closes (NULL), or `wait_ms` is over. The caller's. */
char *raw_read(struct world *w, int fd, const char *needle, int wait_ms);
void world_run(struct world *w, int for_ms);

/* A key and what a node makes of it. */
char *make_csr(EVP_PKEY *key);
char *make_signature(EVP_PKEY *key, const char *data);
EVP_PKEY *make_key(void);
/* A node of `organisation` that has registered: id, certificate, key. */
struct enrolled {
        char id[65];
        char *certificate; /* PEM */
        EVP_PKEY *key;
};
struct enrolled world_enrol(struct world *w, const char *organisation, const char *name);
void enrolled_done(struct enrolled *n);
/* A certificate as nginx hands it on, as a header. The caller's. */
char *certificate_header(const char *pem);
void world_connect(struct world *w, const char *node, bool online);
