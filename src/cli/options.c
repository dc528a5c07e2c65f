#include "cli/options.h"

#include "base/text.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#define ROW(long_name, short_name, metavar, text, option_kind, member, complete)                         \
        {                                                                                                \
                .name = long_name, .letter = short_name, .argument = metavar, .help = text,              \
                .kind = option_kind, .offset = offsetof(struct settings, member), .completion = complete \
        }

/* clang-format off */
static const struct option_row rows[OPTION_COUNT] = {
        [OPTION_CONFIG] = ROW("config", 'c', "FILE", "read this site file instead of /etc/gridnode/site.conf",
                OPTION_TEXT, config_path, COMPLETE_FILE),
        [OPTION_PROFILE] = ROW("profile", 'p', "NAME|PATH", "the control plane to reach: a profile's name or file",
                OPTION_TEXT, profile, COMPLETE_PROFILE),
        [OPTION_SOURCE] = ROW("source", 's', "ADDRESS", "send from this address of this host",
                OPTION_ADDRESS, source, COMPLETE_NOTHING),
        [OPTION_DEVICE] = ROW("interface", 'i', "NAME", "send through this interface, whatever the routes say",
                OPTION_INTERFACE, interface, COMPLETE_INTERFACE),
        [OPTION_WAN] = ROW("interface", 'i', "NAME", "the WAN interface; default: the site file's, else the default route's",
                OPTION_INTERFACE, interface, COMPLETE_INTERFACE),
        [OPTION_BUDGET] = ROW("budget", 'b', "SECONDS", "end after this time, 0.1 to 600; default 5",
                OPTION_SECONDS, budget_s, COMPLETE_NOTHING),
        [OPTION_TIMEOUT] = ROW("timeout", 't', "SECONDS", "the same as --budget",
                OPTION_SECONDS, budget_s, COMPLETE_NOTHING),
        [OPTION_JSON] = ROW("json", 'j', NULL, "write one JSON object instead of text",
                OPTION_FLAG, json, COMPLETE_NOTHING),
        [OPTION_VERBOSE] = ROW("verbose", 'v', NULL, "list every measurement",
                OPTION_FLAG, verbose, COMPLETE_NOTHING),
        [OPTION_QUIET] = ROW("quiet", 'q', NULL, "write no report: the exit status tells",
                OPTION_FLAG, quiet, COMPLETE_NOTHING),
        [OPTION_FIREWALL_PAGE] = ROW("firewall-page", 'f', "FILE", "save a page for the firewall's owner, as .md or .html",
                OPTION_TEXT, firewall_page_path, COMPLETE_FILE),
        [OPTION_CAPTURE] = ROW("capture", 'w', "FILE", "keep the packets of the probes as pcapng, for Wireshark",
                OPTION_TEXT, capture_path, COMPLETE_FILE),
        [OPTION_NO_CAPTURE] = ROW("no-capture", 0, NULL, "do not watch the probes' packets",
                OPTION_FLAG, no_capture, COMPLETE_NOTHING),
        [OPTION_REPLAY] = ROW("replay", 'r', "FILE", "conclude anew from a stored JSON report, - for standard input; measures nothing",
                OPTION_TEXT, replay_path, COMPLETE_FILE),
        [OPTION_ROOT_CA] = ROW("root-ca", 'r', "FILE", "the pinned root as PEM; default: the profile's",
                OPTION_TEXT, root_ca_path, COMPLETE_FILE),
        [OPTION_SNI] = ROW("sni", 'n', "NAME", "ask for this name instead of HOST; empty for none",
                OPTION_TEXT, server_name, COMPLETE_NOTHING),
        [OPTION_MUTUAL] = ROW("mutual", 'm', NULL, "offer the node's own certificate",
                OPTION_FLAG, mutual, COMPLETE_NOTHING),
        [OPTION_PEM] = ROW("pem", 0, NULL, "print the chain as PEM too",
                OPTION_FLAG, pem, COMPLETE_NOTHING),
        [OPTION_TCP] = ROW("tcp", 'T', NULL, "ask over TCP only",
                OPTION_FLAG, tcp_only, COMPLETE_NOTHING),
        [OPTION_TYPE] = ROW("type", 'y', "A|AAAA|NS", "ask for this type of record; default A and AAAA",
                OPTION_TEXT, record_type, COMPLETE_RECORD_TYPE),
        [OPTION_ROOT] = ROW("root", 0, "FOLDER", "keep everything below this folder: FOLDER/etc, FOLDER/var/lib, FOLDER/run",
                OPTION_TEXT, root, COMPLETE_FOLDER),
        [OPTION_PLANE_CONFIG] = ROW("config", 'c', "FILE", "read this file instead of /etc/gridplane/gridplane.conf",
                OPTION_TEXT, config_path, COMPLETE_FILE),
        [OPTION_DOMAIN] = ROW("domain", 0, "NAME", "the domain: nodes speak to repo.NAME and control.NAME",
                OPTION_TEXT, domain, COMPLETE_NOTHING),
        [OPTION_LISTEN] = ROW("listen", 0, "443,8443", "ports, or address:port: the first for HTTPS, the second for HTTPS and MQTT",
                OPTION_TEXT, listen, COMPLETE_NOTHING),
        [OPTION_LOG_ALL] = ROW("verbose", 'v', NULL, "log also what clients of the HTTP API do wrong",
                OPTION_FLAG, verbose, COMPLETE_NOTHING),
        [OPTION_ORGANISATION] = ROW("org", 0, "NAME", "the organisation that it is about; default: default",
                OPTION_TEXT, organisation, COMPLETE_NOTHING),
        [OPTION_SITE] = ROW("site", 0, "SITE", "the site at which the node stands",
                OPTION_TEXT, site, COMPLETE_NOTHING),
        [OPTION_ROLE] = ROW("role", 0, "ROLE", "viewer, operator or admin; default viewer",
                OPTION_TEXT, role, COMPLETE_ROLE),
        [OPTION_PASSWORD_FILE] = ROW("password-file", 0, "FILE", "read the password from the first line of FILE, - for standard input",
                OPTION_TEXT, password_path, COMPLETE_FILE),
        [OPTION_NODE] = ROW("node", 0, "NODE", "only of this node: its name or id",
                OPTION_TEXT, node, COMPLETE_NOTHING),
        [OPTION_NAME] = ROW("name", 0, "NAME", "only with this name",
                OPTION_TEXT, event_name, COMPLETE_NOTHING),
        [OPTION_CAUSE] = ROW("cause", 0, "CODE", "only with this cause, as tcp.dropped",
                OPTION_TEXT, cause, COMPLETE_CODE),
        [OPTION_SEVERITY] = ROW("severity", 0, "LEVEL", "only INFO, WARNING or ERROR, and what is worse",
                OPTION_TEXT, severity, COMPLETE_NOTHING),
        [OPTION_SINCE] = ROW("since", 0, "TIME", "from then on: 2026-11-21T03:00:00Z, or 30m, 6h, 2d ago",
                OPTION_TEXT, since, COMPLETE_NOTHING),
        [OPTION_UNTIL] = ROW("until", 0, "TIME", "before then, written as for --since",
                OPTION_TEXT, until, COMPLETE_NOTHING),
        [OPTION_EXPIRES] = ROW("expires", 0, "DAYS", "ends after so many days; default: never",
                OPTION_TEXT, expires_days, COMPLETE_NOTHING),
        [OPTION_OUTPUT] = ROW("output", 'o', "FILE", "write the secret to FILE, readable by its owner only, and not to the terminal",
                OPTION_TEXT, output_path, COMPLETE_FILE),
        [OPTION_CHANNEL] = ROW("channel", 0, "CHANNEL", "stable, testing or security",
                OPTION_TEXT, channel, COMPLETE_NOTHING),
        [OPTION_CSV] = ROW("csv", 0, NULL, "write comma-separated values (RFC 4180)",
                OPTION_FLAG, csv, COMPLETE_NOTHING),
        [OPTION_COUNT_OF] =
                ROW("count", 0, "NUMBER", "show so many, 1 to 1000; default 50", OPTION_TEXT, count, COMPLETE_NOTHING),
        [OPTION_FOLLOW] = ROW("follow", 0, NULL, "go on with those that come, until interrupted",
                OPTION_FLAG, follow, COMPLETE_NOTHING),
        [OPTION_OPEN] = ROW("open", 0, NULL, "only those that go on",
                OPTION_FLAG, open_only, COMPLETE_NOTHING),
        [OPTION_TOOL_TIMEOUT] = ROW("timeout", 't', "SECONDS", "end the tool after this time, 1 to 600; default 60",
                OPTION_SECONDS, budget_s, COMPLETE_NOTHING),
        [OPTION_SERVER] = ROW("server", 'S', "ADDRESS", "ask this DNS server; default: the first that is configured",
                OPTION_ADDRESS, server, COMPLETE_NOTHING),
        [OPTION_TARGET] = ROW("address", 'a', "ADDRESS", "connect to this address of the service; default: the first of the answer",
                OPTION_ADDRESS, address, COMPLETE_NOTHING),
        [OPTION_DNS_ONLY] = ROW("dns-only", 'd', NULL, "ask the DNS server only",
                OPTION_FLAG, dns_only, COMPLETE_NOTHING),
        [OPTION_TOKEN_FILE] = ROW("token-file", 0, "FILE", "read the one-time token from FILE, - for standard input",
                OPTION_TEXT, token_path, COMPLETE_FILE),
        [OPTION_PIN] = ROW("root-ca", 'r', "FILE", "the root certificate of the control plane, as PEM",
                OPTION_TEXT, root_ca_path, COMPLETE_FILE),
        [OPTION_ROOT_FINGERPRINT] = ROW("root-fingerprint", 0, "SHA256", "its SHA-256 fingerprint, 64 hexadecimal digits: the root is fetched and compared",
                OPTION_TEXT, root_fingerprint, COMPLETE_NOTHING),
        [OPTION_AGAIN] = ROW("again", 0, NULL, "replace the identity of a node that is registered already",
                OPTION_FLAG, again, COMPLETE_NOTHING),
        [OPTION_ETAG] = ROW("etag", 0, "ETAG", "say so (status 304) when it is still the one with this ETag",
                OPTION_TEXT, etag, COMPLETE_NOTHING),
        [OPTION_PATIENCE] = ROW("timeout", 't', "SECONDS", "give up after this time, 0.1 to 600; default 30",
                OPTION_SECONDS, budget_s, COMPLETE_NOTHING),
        [OPTION_SHA256] = ROW("sha256", 0, "HEX", "what it must be: it is kept only when its SHA-256 is this one",
                OPTION_TEXT, sha256, COMPLETE_NOTHING),
        [OPTION_TO_FILE] = ROW("output", 'o', "FILE", "write to FILE; default: the last part of PATH",
                OPTION_TEXT, output_path, COMPLETE_FILE),
        [OPTION_DEADLINE] = ROW("timeout", 't', "SECONDS", "give up after this time, 0.1 to 600; default: after a minute without a byte",
                OPTION_SECONDS, budget_s, COMPLETE_NOTHING),
        [OPTION_CHECK] = ROW("check", 0, NULL, "look what would change, and install nothing",
                OPTION_FLAG, update.check, COMPLETE_NOTHING),
        [OPTION_DRY_RUN] = ROW("dry-run", 0, NULL, "the same, with disk, megabytes, time, and the state of dpkg",
                OPTION_FLAG, update.dry_run, COMPLETE_NOTHING),
        [OPTION_DOWNLOAD] = ROW("download", 0, NULL, "fetch what would change, and install nothing",
                OPTION_FLAG, update.download, COMPLETE_NOTHING),
        [OPTION_NOW] = ROW("now", 0, NULL, "update now, whatever the window is",
                OPTION_FLAG, update.now, COMPLETE_NOTHING),
        [OPTION_CANCEL] = ROW("cancel", 0, NULL, "end the update that is under way, unless it installs already",
                OPTION_FLAG, update.cancel, COMPLETE_NOTHING),
        [OPTION_HISTORY] = ROW("history", 0, NULL, "list the updates of the last 30 days",
                OPTION_FLAG, update.history, COMPLETE_NOTHING),
        [OPTION_OFFER_AGAIN] = ROW("again", 0, NULL, "also a version that failed here before",
                OPTION_FLAG, again, COMPLETE_NOTHING),
        [OPTION_NO_REBOOT] = ROW("no-reboot", 0, NULL, "leave the machine running even when something needs its restart",
                OPTION_FLAG, update.no_reboot, COMPLETE_NOTHING),
        [OPTION_NO_WAIT] = ROW("no-wait", 0, NULL, "begin it and end at once",
                OPTION_FLAG, update.no_wait, COMPLETE_NOTHING),
        [OPTION_SUITE] = ROW("channel", 0, "NAME", "of the repository; default: the configuration's, else stable",
                OPTION_TEXT, update.channel, COMPLETE_NOTHING),
        [OPTION_BY] = ROW("by", 0, "NAME", "who asks, for events and history; default: this user",
                OPTION_TEXT, update.by, COMPLETE_NOTHING),
        [OPTION_TAG] = ROW("tag", 0, "KEY[=VALUE]", "only with this tag",
                OPTION_TEXT, fleet.tag, COMPLETE_NOTHING),
        [OPTION_REMOVE_TAGS] = ROW("remove", 0, "KEY,...", "take these tags off",
                OPTION_TEXT, fleet.remove, COMPLETE_NOTHING),
        [OPTION_UPDATE_STATUS] = ROW("status", 0, "STATUS", "only these: 'In Progress', Completed or Failed",
                OPTION_TEXT, fleet.status, COMPLETE_NOTHING),
        [OPTION_VERDICT] = ROW("verdict", 0, "VERDICT", "only these: healthy, degraded, blocked or undetermined",
                OPTION_TEXT, fleet.verdict, COMPLETE_NOTHING),
        [OPTION_ACTOR] = ROW("actor", 0, "WHO", "only what this one did",
                OPTION_TEXT, fleet.actor, COMPLETE_NOTHING),
        [OPTION_ACTION] = ROW("action", 0, "WHAT", "only this, such as node.create or config.put",
                OPTION_TEXT, fleet.action, COMPLETE_NOTHING),
        [OPTION_OBJECT] = ROW("object", 0, "ID|NAME", "only what was done to this one",
                OPTION_TEXT, fleet.object, COMPLETE_NOTHING),
        [OPTION_OF_ROLE] = ROW("role", 0, "ROLE", "only of this role",
                OPTION_TEXT, role, COMPLETE_ROLE),
        [OPTION_INCLUDE] = ROW("include", 0, "TAG,...", "nodes with one of these tags, KEY=VALUE or KEY; default: all",
                OPTION_TEXT, fleet.include, COMPLETE_NOTHING),
        [OPTION_EXCLUDE] = ROW("exclude", 0, "TAG,...", "but not nodes with one of these",
                OPTION_TEXT, fleet.exclude, COMPLETE_NOTHING),
        [OPTION_SITES] = ROW("sites", 0, "SITE,...", "nodes of these sites; default: all",
                OPTION_TEXT, fleet.sites, COMPLETE_NOTHING),
        [OPTION_WAVES] = ROW("waves", 0, "5%,25%,100%", "one after the other, per cent of the nodes, added up; default: 100%",
                OPTION_TEXT, fleet.waves, COMPLETE_NOTHING),
        [OPTION_STOP_AT] = ROW("stop-at", 0, "PERCENT", "stop when more of the nodes begun have failed; default 10, 100: never",
                OPTION_TEXT, fleet.stop_at, COMPLETE_NOTHING),
        [OPTION_LIMIT] = ROW("limit", 0, "MINUTES", "a node that has not ended by then has failed; default 90",
                OPTION_TEXT, fleet.limit, COMPLETE_NOTHING),
        [OPTION_TIMELINE] = ROW("timeline", 0, NULL, "also what happened, and when",
                OPTION_FLAG, verbose, COMPLETE_NOTHING),
        [OPTION_ASK] = ROW("ask", 0, NULL, "let each node tell, too, what would change there",
                OPTION_FLAG, fleet.ask, COMPLETE_NOTHING),
        [OPTION_HELP] = ROW("help", 'h', NULL, "show this help and end",
                OPTION_FLAG, help, COMPLETE_NOTHING),
        [OPTION_VERSION] = ROW("version", 'V', NULL, "show the version and end",
                OPTION_FLAG, version, COMPLETE_NOTHING),
};
/* clang-format on */

const struct option_row *option_row(enum option_name name)
{
        return &rows[name];
}

/* getopt_long gives this plus the option's place in the caller's list for every option, long or short. */
#define LONG_BASE 256

struct getopt_tables {
        struct option longs[OPTION_COUNT + 1];
        char shorts[2 + 2 * OPTION_COUNT + 1];
};

static void build_tables(
        const enum option_name *names, size_t count, const char *prefix, struct getopt_tables *ret)
{
        char *s = stpcpy(ret->shorts, prefix);

        for (size_t i = 0; i < count; i++) {
                const struct option_row *row = &rows[names[i]];

                ret->longs[i] = (struct option){.name = row->name,
                        .has_arg = row->argument ? required_argument : no_argument,
                        .val = LONG_BASE + (int)i};
                if (!row->letter)
                        continue;
                *s++ = row->letter;
                if (row->argument)
                        *s++ = ':';
        }
        *s = 0;
        ret->longs[count] = (struct option){0};
}

static int store(const struct option_row *row, const char *argument, struct settings *settings,
        struct error *ret_error)
{
        void *place = (char *)settings + row->offset;
        char *end;
        double seconds;

        switch (row->kind) {
        case OPTION_FLAG:
                *(bool *)place = true;
                return 0;
        case OPTION_TEXT:
                *(const char **)place = argument;
                return 0;
        case OPTION_SECONDS:
                seconds = strtod(argument, &end);
                if (end == argument || *end || isnan(seconds) || seconds < 0.1 || seconds > 600)
                        return error_set(ret_error, EINVAL, "usage.seconds",
                                "--%s takes seconds from 0.1 to 600, not '%s'", row->name, argument);
                *(double *)place = seconds;
                return 0;
        case OPTION_ADDRESS:
                if (inet_addr_parse(argument, place) < 0)
                        return error_set(ret_error, EINVAL, "usage.address",
                                "--%s takes an IPv4 or IPv6 address, not '%s'", row->name, argument);
                return 0;
        case OPTION_INTERFACE:
                if (!str_is_interface_name(argument))
                        return error_set(ret_error, EINVAL, "usage.interface",
                                "--%s takes the name of a network interface, not '%s'", row->name, argument);
                *(const char **)place = argument;
                return 0;
        }
        return -EINVAL;
}

static const struct option_row *find_row(const enum option_name *names, size_t count, int value)
{
        if (value >= LONG_BASE)
                return &rows[names[value - LONG_BASE]];
        for (size_t i = 0; i < count; i++)
                if (rows[names[i]].letter == value)
                        return &rows[names[i]];
        return NULL;
}

/* getopt tells too little of what was wrong: work it out from where it stands. */
static int wrong_option(const enum option_name *names, size_t count, char **argv, bool is_missing_argument,
        struct error *ret_error)
{
        const char *word = argv[optind - 1];
        const struct option_row *row = optopt ? find_row(names, count, optopt) : NULL;

        if (row && !row->argument)
                return error_set(
                        ret_error, EINVAL, "usage.option", "option --%s takes no argument", row->name);
        if (row && is_missing_argument)
                return error_set(
                        ret_error, EINVAL, "usage.option", "option --%s needs %s", row->name, row->argument);
        if (optopt && optopt < LONG_BASE)
                return error_set(ret_error, EINVAL, "usage.option", "unknown option -%c", optopt);
        return error_set(ret_error, EINVAL, "usage.option", "unknown or ambiguous option %s", word);
}

int options_parse(int argc, char **argv, const enum option_name *names, size_t count, struct settings *ret,
        int *ret_first, struct error *ret_error)
{
        struct settings settings = *ret;
        struct getopt_tables tables;
        int value, r;

        build_tables(names, count, ":", &tables);
        opterr = 0;
        optind = 0; /* glibc: start anew, the order of a former call forgotten */
        while ((value = getopt_long(argc, argv, tables.shorts, tables.longs, NULL)) != -1) {
                const struct option_row *row;

                if (value == '?' || value == ':')
                        return wrong_option(names, count, argv, value == ':', ret_error);
                row = find_row(names, count, value);
                if (!row)
                        return error_set(ret_error, EINVAL, "usage.option", "unknown option -%c", value);
                r = store(row, optarg, &settings, ret_error);
                if (r < 0)
                        return r;
        }
        *ret_first = optind;
        *ret = settings;
        return 0;
}

/* The same letter or name may mean two options of two commands, but never one with and one without an
 * argument, so that the first row serves. */
int options_find_command(int argc, char **argv)
{
        struct getopt_tables tables;
        enum option_name all[OPTION_COUNT];
        int value;

        for (int i = 0; i < OPTION_COUNT; i++)
                all[i] = (enum option_name)i;
        build_tables(all, OPTION_COUNT, "+:", &tables);
        opterr = 0;
        optind = 0;
        while ((value = getopt_long(argc, argv, tables.shorts, tables.longs, NULL)) != -1)
                ;
        return optind;
}
