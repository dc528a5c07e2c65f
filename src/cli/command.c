#include "cli/command.h"

#include "base/cleanup.h"
#include "base/text.h"
#include "cli/suggest.h"

#include <string.h>
#include <sysexits.h>

#define WAYS OPTION_SOURCE, OPTION_DEVICE, OPTION_CONFIG, OPTION_BUDGET, OPTION_TIMEOUT
#define ROWS(...)                              \
        .options = {__VA_ARGS__, OPTION_HELP}, \
        .option_count = sizeof((enum option_name[]){__VA_ARGS__, OPTION_HELP}) / sizeof(enum option_name)

#define NAMES_BY_SITE                                                                                \
        "HOST is a name or a literal address. A name is asked of the DNS servers of the site file, " \
        "else of /etc/resolv.conf, from the chosen source; the resolver of the system takes no part."

/* clang-format off */
const struct command commands[] = {
        {"diag", cmd_diag, "name what blocks the way to the control plane", "", 0, 0, COMPLETE_NOTHING,
                NEEDS_SITE | NEEDS_PROFILE,
                ROWS(OPTION_CONFIG, OPTION_PROFILE, OPTION_SOURCE, OPTION_WAN, OPTION_BUDGET, OPTION_JSON,
                        OPTION_VERBOSE, OPTION_QUIET, OPTION_FIREWALL_PAGE, OPTION_CAPTURE, OPTION_NO_CAPTURE,
                        OPTION_REPLAY),
                "Measures link, addresses, routes, DNS, TCP, TLS and HTTP on the way to every service of the "
                "profile, all side by side, and concludes from it what is wrong, who does it as far as that "
                "can be known, what proves it and who can mend it.\n\n"
                "Without a profile it looks at this host's own network: link, address, route, gateway and "
                "DNS servers.\n\n"
                "What is not measured within the budget is reported as not tested, never as failed. "
                "An interrupt ends the run at once with a report of what is known.",
                "gridnode diag\tdiagnose with the site file's profile\n"
                "gridnode diag --profile trustgrid --firewall-page allow.html\talso write the page for the firewall's owner\n"
                "gridnode diag --json > report.json\tkeep the report\n"
                "gridnode diag --replay report.json\tconclude from it anew"},
        {"tcp", cmd_tcp, "test a TCP port, at every address of a host", "HOST PORT", 2, 2, COMPLETE_NOTHING,
                NEEDS_SITE,
                ROWS(WAYS, OPTION_NO_CAPTURE, OPTION_JSON),
                "Connects to the port at every address of the host. Several SYNs are sent early, so that a lost "
                "one is not taken for a block. A device that refuses with ICMP is named. The last line is "
                "what netcat would print.\n\n" NAMES_BY_SITE,
                "gridnode tcp repo.example.net 443\tis the port open\n"
                "gridnode tcp --source 192.0.2.10 198.51.100.20 8443\tand from this address"},
        {"dns", cmd_dns, "ask each DNS server for a name, over UDP and TCP", "NAME [@SERVER]...", 1, -1, COMPLETE_NOTHING,
                NEEDS_SITE,
                ROWS(OPTION_TCP, OPTION_TYPE, WAYS, OPTION_JSON),
                "Asks every server over both transports and shows each one's answer, its time to live and "
                "how long it took. Without @SERVER the servers are those of the site file, else of "
                "/etc/resolv.conf.",
                "gridnode dns repo.example.net\task the configured servers\n"
                "gridnode dns repo.example.net @198.51.100.53 --tcp\task one server over TCP"},
        {"tls", cmd_tls, "show the certificate chain of a server and who signed it", "HOST:PORT", 1, 1, COMPLETE_NOTHING,
                NEEDS_SITE | NEEDS_PROFILE,
                ROWS(OPTION_ROOT_CA, OPTION_PROFILE, OPTION_SNI, OPTION_MUTUAL, OPTION_PEM, WAYS,
                        OPTION_NO_CAPTURE, OPTION_JSON),
                "Makes a TLS handshake with every address of the host, shows the chain that is presented, and says whether it leads "
                "to the pinned root: that of --root-ca, else of the profile. PORT may be left out: 443. When "
                "something else than TLS answers, its first bytes are shown.\n\n" NAMES_BY_SITE,
                "gridnode tls repo.example.net:443 --root-ca root.pem\tdoes the chain lead to this root\n"
                "gridnode tls 198.51.100.20:443 --sni repo.example.net --pem\task one address by name, keep the chain"},
        {"route", cmd_route, "show what the kernel would do with packets to an address", "ADDRESS[:PORT]", 1, 1, COMPLETE_NOTHING,
                NEEDS_SITE,
                ROWS(OPTION_SOURCE, OPTION_WAN, OPTION_CONFIG, OPTION_JSON),
                "Looks the route up as the kernel does, with all policy rules, for packets from the WAN address. "
                "Says whether a route on another interface than the WAN captures them, and by which rule "
                "and table.",
                "gridnode route 198.51.100.53\twhich way do packets to the DNS server go"},
        {"trace", cmd_trace, "trace the way to a TCP port, and name the hop that refuses", "HOST PORT", 2, 2, COMPLETE_NOTHING,
                NEEDS_SITE,
                ROWS(WAYS, OPTION_NO_CAPTURE, OPTION_JSON),
                "Sends SYNs with rising TTL: each router on the way answers for itself. An RST is not taken "
                "for arrival, since a device on the way can send one in the target's name: it is "
                "compared with how far away another port of the same host is.\n\n" NAMES_BY_SITE,
                "gridnode trace repo.example.net 443\twhere on the way do packets end"},
        {"explain", cmd_explain, "explain a cause that a diagnosis can name, or list all", "[CODE]", 0, 1, COMPLETE_CODE,
                NEEDS_NOTHING,
                ROWS(OPTION_JSON),
                "Says what the cause means, what proves it, what it must not be confused with, and what mends it.",
                "gridnode explain tcp.dropped\twhat does that mean"},
        {"help", cmd_help, "show the help of a command", "[COMMAND]", 0, 1, COMPLETE_COMMAND,
                NEEDS_NOTHING,
                ROWS(OPTION_HELP),
                "The same as gridnode COMMAND --help; without COMMAND the list of commands.",
                "gridnode help diag\tthe options of diag"},
};
/* clang-format on */

const size_t command_count = ELEMENTS(commands);

const struct exit_meaning exit_meanings[] = {
        {0, "healthy, or done"},
        {1, "blocked, or the job failed"},
        {2, "undetermined: it fails, and the evidence does not say why"},
        {3, "degraded: part of it works"},
        {EX_USAGE, "wrong usage"},
        {EX_UNAVAILABLE, "a service that is needed is unavailable"},
        {EX_NOPERM, "not permitted"},
        {EX_CONFIG, "bad configuration"},
        {130, "interrupted: what was found until then is reported"},
        {0, NULL},
};

const struct command *command_find(const char *name)
{
        for (size_t i = 0; i < command_count; i++)
                if (str_equal(commands[i].name, name))
                        return &commands[i];
        return NULL;
}

const char *command_suggest(const char *name)
{
        const char *names[ELEMENTS(commands)];

        for (size_t i = 0; i < command_count; i++)
                names[i] = commands[i].name;
        return suggest_nearest(name, names, command_count);
}

void command_write_synopsis(const struct command *c, FILE *to)
{
        fprintf(to, "gridnode %s [OPTION]...%s%s", c->name, c->arguments[0] ? " " : "", c->arguments);
}

/* Breaks a paragraph at blanks; the first line begins at column `indent` already. */
static void write_wrapped(const char *s, size_t indent, FILE *to)
{
        size_t column = indent;

        while (*s) {
                size_t length = 0;

                while (s[length] && s[length] != ' ' && s[length] != '\n')
                        length++;
                if (column + length > 79 && column > indent) {
                        fprintf(to, "\n%*s", (int)indent, "");
                        column = indent;
                }
                fprintf(to, "%.*s", (int)length, s);
                column += length;
                s += length;
                if (*s == '\n') {
                        fprintf(to, "\n%*s", (int)indent, "");
                        column = indent;
                        s++;
                } else if (*s == ' ') {
                        if (column < 79)
                                fputc(' ', to);
                        column++;
                        s++;
                }
        }
        fputc('\n', to);
}

static void write_option(const struct option_row *row, FILE *to)
{
        char left[64];

        snprintf(left, sizeof left, "  %c%c%s --%s%s%s", row->letter ? '-' : ' ',
                row->letter ? row->letter : ' ', row->letter ? "," : " ", row->name, row->argument ? "=" : "",
                row->argument ? row->argument : "");
        fprintf(to, "%-30s ", left);
        write_wrapped(row->help, 31, to);
}

void command_write_help(const struct command *c, FILE *to)
{
        fputs("Usage: ", to);
        command_write_synopsis(c, to);
        fputs("\n\n", to);
        write_wrapped(c->details, 0, to);
        fputs("\nOptions:\n", to);
        for (size_t i = 0; i < c->option_count; i++)
                if (i == 0 || c->options[i] != c->options[i - 1])
                        write_option(option_row(c->options[i]), to);
        fputs("\nExamples:\n", to);
        for (const char *s = c->examples; *s;) {
                int length = (int)strcspn(s, "\t"), rest = (int)strcspn(s + length, "\n");

                fprintf(to, "  %.*s\n      %.*s\n", length, s, rest - 1, s + length + 1);
                s += length + rest;
                s += *s == '\n';
        }
}

void command_write_overview(FILE *to)
{
        fputs("Usage: gridnode COMMAND [OPTION]... [ARGUMENT]...\n"
              "Name what blocks a node's way to its control plane, and look at it by hand.\n\nCommands:\n",
                to);
        for (size_t i = 0; i < command_count; i++)
                fprintf(to, "  %-8s  %s\n", commands[i].name, commands[i].help);
        fputs("\nOptions:\n", to);
        write_option(option_row(OPTION_HELP), to);
        write_option(option_row(OPTION_VERSION), to);
        fputs("\nExit status:\n", to);
        for (const struct exit_meaning *e = exit_meanings; e->meaning; e++)
                fprintf(to, "  %3d  %s\n", e->status, e->meaning);
        fputs("\n'gridnode COMMAND --help' tells more of a command.\n", to);
}
