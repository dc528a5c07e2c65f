/* What the clock and the certificates on disk say about each other. */
#include "plane/preflight_internal.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "net/x509.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509.h>
#include <pwd.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define DAY_S             86400
#define SOFTWARE_UNIX     1735689600 /* 2025-01-01, before this software was written */
#define ROOT_WARN_DAYS    365
#define ISSUER_WARN_DAYS  100 /* certificates of 90 days are cut short after that */
#define SERVER_WARN_DAYS  14  /* its renewal is 16 days late */
#define OUTSIDE_WARN_DAYS 30
#define MAX_CHAIN         64

struct kind {
        const char *what, *remedy;
        int warn_days;
        bool end_is_fatal;
};

static void check_one(X509 *x, const char *path, const struct kind *k, int64_t now, struct findings *f)
{
        int64_t from = x509_time_to_unix(X509_get0_notBefore(x)),
                to = x509_time_to_unix(X509_get0_notAfter(x));
        char text[32];

        if (now < from) {
                time_format_utc(from * 1000, text);
                finding_add(f, true, "clock.wrong",
                        "the clock is before %s, when %s (%s) was made; set the clock (timedatectl)", text,
                        k->what, path);
                return;
        }
        if (to - now >= (int64_t)k->warn_days * DAY_S)
                return;
        time_format_utc(to * 1000, text);
        finding_add(f, to <= now && k->end_is_fatal, "certificate.expiring", "%s (%s) %s %s; %s", k->what,
                path, to <= now ? "ended" : "ends", text, k->remedy);
}

/* The certificates of a file; of our authority's bundle the first is the root, and of the others one that
 * lives on is enough. A file that is not there is made by serve. */
static void check_bundle(const char *path, int64_t now, struct findings *f)
{
        static const struct kind root = {"the root certificate",
                "a new root must reach every node before that: plan its exchange", ROOT_WARN_DAYS, true};
        static const struct kind issuer = {"the newest intermediate certificate",
                "bring the root's key back into ca/root/ and start gridplane, which makes a new one",
                ISSUER_WARN_DAYS, true};
        _cleanup_fclose_ FILE *file = fopen(path, "re");
        _cleanup_(X509_free_p) X509 *newest = NULL;

        for (size_t i = 0; file && i < MAX_CHAIN; i++) {
                _cleanup_(X509_free_p) X509 *x = PEM_read_X509(file, NULL, NULL, NULL);

                if (!x)
                        break;
                if (i == 0)
                        check_one(x, path, &root, now, f);
                else if (!newest || x509_time_to_unix(X509_get0_notAfter(x)) >
                                            x509_time_to_unix(X509_get0_notAfter(newest))) {
                        X509_free(newest);
                        newest = TAKE_PTR(x);
                }
        }
        if (newest)
                check_one(newest, path, &issuer, now, f);
        ERR_clear_error();
}

static void check_file(
        const char *path, const struct kind *k, bool is_needed, int64_t now, struct findings *f)
{
        _cleanup_fclose_ FILE *file = fopen(path, "re");
        _cleanup_(X509_free_p) X509 *x = file ? PEM_read_X509(file, NULL, NULL, NULL) : NULL;

        if (x)
                check_one(x, path, k, now, f);
        else if (is_needed)
                finding_add(f, true, "certificate.unreadable",
                        "%s (%s) cannot be read: %s; put a PEM file there", k->what, path,
                        file ? "no certificate is in it" : strerror(errno));
        ERR_clear_error();
}

static void check_key(const char *path, const struct plane_settings *s, struct findings *f)
{
        const struct passwd *user = s->user && geteuid() == 0 ? getpwnam(s->user) : NULL;
        struct stat st;

        if (stat(path, &st) < 0)
                finding_add(f, true, "certificate.unreadable",
                        "the key for an outside part (%s) cannot be read: %s", path, strerror(errno));
        else if (user && st.st_uid != user->pw_uid && !(st.st_mode & 0044))
                finding_add(f, true, "certificate.unreadable",
                        "the key for an outside part (%s) is user %u's, and gridplane becomes %s, who cannot "
                        "read it; give it to that user (chown)",
                        path, (unsigned)st.st_uid, s->user);
        else if (st.st_mode & 077)
                finding_add(f, false, "certificate.unreadable",
                        "others may read the key for an outside part (%s, mode %04o); take that away "
                        "(chmod 600)",
                        path, (unsigned)st.st_mode & 07777);
}

void preflight_certificates(const struct plane_settings *s, int64_t now_unix, struct findings *f)
{
        static const struct kind server = {"the servers' certificate",
                "gridplane renews it when it runs: start it", SERVER_WARN_DAYS, false};
        static const struct kind client = {"the certificate for the outside broker",
                "ask the broker's operator for a new one", OUTSIDE_WARN_DAYS, true};
        static const struct kind outside_root = {"the root certificate of the outside broker",
                "ask the broker's operator for the new one", OUTSIDE_WARN_DAYS, true};
        static const struct kind registry_client = {"the certificate for the outside registry",
                "ask the registry's operator for a new one", OUTSIDE_WARN_DAYS, true};
        static const struct kind registry_root = {"the root certificate of the outside registry",
                "ask the registry's operator for the new one", OUTSIDE_WARN_DAYS, true};
        _cleanup_free_ char *bundle = path_join(s->paths.state, "ca/bundle.crt");
        _cleanup_free_ char *own = path_join(s->paths.state, "ca/server/gridplane.crt");
        char text[32];

        if (now_unix < SOFTWARE_UNIX) {
                time_format_utc(now_unix * 1000, text);
                finding_add(f, true, "clock.wrong",
                        "the clock says %s, and this software is younger; set the clock (timedatectl)", text);
                return;
        }
        check_bundle(bundle, now_unix, f);
        check_file(own, &server, false, now_unix, f);
        if (s->broker_url) {
                check_file(s->broker_certificate, &client, true, now_unix, f);
                check_file(s->broker_root_ca, &outside_root, true, now_unix, f);
                check_key(s->broker_key, s, f);
        }
        if (s->registry_url && s->registry_root_ca)
                check_file(s->registry_root_ca, &registry_root, true, now_unix, f);
        if (s->registry_url && s->registry_certificate) {
                check_file(s->registry_certificate, &registry_client, true, now_unix, f);
                check_key(s->registry_key, s, f);
        }
}
