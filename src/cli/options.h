/* The options of the commands: each is one row, from which getopt_long, --help, the man pages and the shell
 * completion are made. */
#pragma once

#include "base/error.h"
#include "base/inet.h"

#include <stdbool.h>
#include <stddef.h>

/* What the options say. Strings point into argv. */
struct settings {
        const char *config_path;
        const char *profile;
        struct inet_addr source;
        const char *interface; /* NULL: not given */
        double budget_s;       /* 0: not given */
        bool json, verbose, quiet, no_capture;
        const char *firewall_page_path;
        const char *capture_path;
        const char *replay_path;
        const char *root_ca_path;
        const char *server_name; /* tls --sni; "" for none */
        const char *record_type;
        bool tcp_only, mutual, pem;
        struct inet_addr server, address; /* probe */
        bool dns_only;
        const char *root;                 /* below which all files are */
        const char *domain, *listen;      /* gridplane serve */
        const char *organisation, *site;  /* gridplane */
        const char *role, *password_path; /* gridplane user */
        const char *node, *event_name, *cause, *severity, *since, *until;
        const char *expires_days, *output_path, *count;
        const char *channel; /* gridplane package */
        bool csv, follow, open_only;
        const char *token_path, *root_fingerprint; /* register */
        const char *etag;                          /* config */
        bool again;
        const char *sha256; /* fetch */
        struct {
                bool check, dry_run, download, now, cancel, history, no_reboot, no_wait;
                const char *channel, *by;
        } update;
        struct { /* lists of the control plane, and its upgrades */
                const char *tag, *remove, *status, *verdict, *actor, *action, *object;
                const char *include, *exclude, *sites, *waves, *stop_at, *limit;
                bool ask;
        } fleet;
        bool help, version;
};

enum option_kind {
        OPTION_FLAG,
        OPTION_TEXT,
        OPTION_SECONDS, /* 0.1 to 600 */
        OPTION_ADDRESS, /* IPv4 or IPv6 literal */
        OPTION_INTERFACE,
};

/* What the shell offers for an argument. */
enum completion {
        COMPLETE_NOTHING,
        COMPLETE_FILE,
        COMPLETE_INTERFACE,
        COMPLETE_PROFILE,
        COMPLETE_CODE,
        COMPLETE_COMMAND,
        COMPLETE_RECORD_TYPE,
        COMPLETE_ROLE,
        COMPLETE_FOLDER,
};

struct option_row {
        const char *name;     /* long form, without dashes */
        char letter;          /* short form, 0 none */
        const char *argument; /* "FILE"; NULL: takes none */
        const char *help;     /* a phrase, no full stop */
        enum option_kind kind;
        size_t offset; /* into struct settings */
        enum completion completion;
};

enum option_name {
        OPTION_CONFIG,
        OPTION_PROFILE,
        OPTION_SOURCE,
        OPTION_DEVICE,
        OPTION_WAN,
        OPTION_BUDGET,
        OPTION_TIMEOUT,
        OPTION_JSON,
        OPTION_VERBOSE,
        OPTION_QUIET,
        OPTION_FIREWALL_PAGE,
        OPTION_CAPTURE,
        OPTION_NO_CAPTURE,
        OPTION_REPLAY,
        OPTION_ROOT_CA,
        OPTION_SNI,
        OPTION_MUTUAL,
        OPTION_PEM,
        OPTION_TCP,
        OPTION_TYPE,
        OPTION_SERVER,
        OPTION_TARGET,
        OPTION_DNS_ONLY,
        OPTION_ROOT,
        OPTION_PLANE_CONFIG,
        OPTION_DOMAIN,
        OPTION_LISTEN,
        OPTION_LOG_ALL,
        OPTION_ORGANISATION,
        OPTION_SITE,
        OPTION_ROLE,
        OPTION_PASSWORD_FILE,
        OPTION_NODE,
        OPTION_NAME,
        OPTION_CAUSE,
        OPTION_SEVERITY,
        OPTION_SINCE,
        OPTION_UNTIL,
        OPTION_EXPIRES,
        OPTION_OUTPUT,
        OPTION_CHANNEL,
        OPTION_CSV,
        OPTION_FOLLOW,
        OPTION_COUNT_OF,
        OPTION_OPEN,
        OPTION_TOOL_TIMEOUT,
        OPTION_TOKEN_FILE,
        OPTION_PIN,
        OPTION_ROOT_FINGERPRINT,
        OPTION_AGAIN,
        OPTION_ETAG,
        OPTION_PATIENCE,
        OPTION_SHA256,
        OPTION_TO_FILE,
        OPTION_DEADLINE,
        OPTION_CHECK,
        OPTION_DRY_RUN,
        OPTION_DOWNLOAD,
        OPTION_NOW,
        OPTION_CANCEL,
        OPTION_HISTORY,
        OPTION_OFFER_AGAIN,
        OPTION_NO_REBOOT,
        OPTION_NO_WAIT,
        OPTION_SUITE,
        OPTION_BY,
        OPTION_TAG,
        OPTION_REMOVE_TAGS,
        OPTION_UPDATE_STATUS,
        OPTION_VERDICT,
        OPTION_ACTOR,
        OPTION_ACTION,
        OPTION_OBJECT,
        OPTION_OF_ROLE,
        OPTION_INCLUDE,
        OPTION_EXCLUDE,
        OPTION_SITES,
        OPTION_WAVES,
        OPTION_STOP_AT,
        OPTION_LIMIT,
        OPTION_ASK,
        OPTION_TIMELINE,
        OPTION_HELP,
        OPTION_VERSION,
        OPTION_COUNT
};

#define OPTIONS_MAX 24 /* of one command */

const struct option_row *option_row(enum option_name name);

/* Parses with getopt_long: options anywhere, "--" ends them. argv[0] is skipped and argv is permuted; the
 * arguments begin at *ret_first. `rows` holds `count` names. 0, or -EINVAL with the fact in `ret_error`. */
int options_parse(int argc, char **argv, const enum option_name *rows, size_t count, struct settings *ret,
        int *ret_first, struct error *ret_error);
/* The index in argv of the first word that is neither an option of any command nor such an option's argument;
 * argc when there is none. argv is left as it is. */
int options_find_command(int argc, char **argv);
