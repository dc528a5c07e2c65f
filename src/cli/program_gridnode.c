/* gridnode: the node's commands. */
#include "cli/command.h"
#include "cli/commands_gridnode.h"
#include "cli/program.h"
#include "cli/session.h"

#include "base/cleanup.h"

#define WAYS OPTION_SOURCE, OPTION_DEVICE, OPTION_CONFIG, OPTION_ROOT, OPTION_BUDGET, OPTION_TIMEOUT
#define NAMES_BY_SITE                                                                                \
        "HOST is a name or a literal address. A name is asked of the DNS servers of the site file, " \
        "else of /etc/resolv.conf, from the chosen source; the resolver of the system takes no part."

/* clang-format off */
static const struct command commands[] = {
        {"diag", cmd_diag, "name what blocks the way to the control plane", "", 0, 0, COMPLETE_NOTHING,
                NEEDS_SITE | NEEDS_PROFILE,
                ROWS(OPTION_CONFIG, OPTION_ROOT, OPTION_PROFILE, OPTION_SOURCE, OPTION_WAN, OPTION_BUDGET, OPTION_JSON,
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
                "one is not taken for a block. A device that refuses with ICMP is named. Each address has its line as "
                "soon as its outcome is known: one that is silent comes last. The last line is "
                "what netcat would print.\n\n" NAMES_BY_SITE,
                "gridnode tcp repo.example.net 443\tis the port open\n"
                "gridnode tcp --source 192.0.2.10 198.51.100.20 8443\tand from this address"},
        {"dns", cmd_dns, "ask each DNS server for a name, over UDP and TCP", "NAME [@SERVER]...", 1, -1, COMPLETE_NOTHING,
                NEEDS_SITE,
                ROWS(OPTION_TCP, OPTION_TYPE, WAYS, OPTION_JSON),
                "Asks every server over both transports and shows each one's answer, its time to live and "
                "how long it took, a line each as it comes: who answers does not wait for who is silent. "
                "Without @SERVER the servers are those of the site file, else of "
                "/etc/resolv.conf.",
                "gridnode dns repo.example.net\task the configured servers\n"
                "gridnode dns repo.example.net @198.51.100.53 --tcp\task one server over TCP"},
        {"tls", cmd_tls, "show the certificate chain of a server and who signed it", "HOST:PORT", 1, 1, COMPLETE_NOTHING,
                NEEDS_SITE | NEEDS_PROFILE,
                ROWS(OPTION_ROOT_CA, OPTION_PROFILE, OPTION_SNI, OPTION_MUTUAL, OPTION_PEM, WAYS,
                        OPTION_NO_CAPTURE, OPTION_JSON),
                "Connects to every address of the host and makes a TLS handshake, says each as it comes about, shows the chain that is "
                "presented, and says whether it leads "
                "to the pinned root: that of --root-ca, else of the profile. PORT may be left out: 443. When "
                "something else than TLS answers, its first bytes are shown.\n\n" NAMES_BY_SITE,
                "gridnode tls repo.example.net:443 --root-ca root.pem\tdoes the chain lead to this root\n"
                "gridnode tls 198.51.100.20:443 --sni repo.example.net --pem\task one address by name, keep the chain"},
        {"route", cmd_route, "show what the kernel would do with packets to an address", "ADDRESS[:PORT]", 1, 1, COMPLETE_NOTHING,
                NEEDS_SITE,
                ROWS(OPTION_SOURCE, OPTION_WAN, OPTION_CONFIG, OPTION_ROOT, OPTION_JSON),
                "Looks the route up as the kernel does, with all policy rules, for packets from the WAN address. "
                "Says whether a route on another interface than the WAN captures them, and by which rule "
                "and table.",
                "gridnode route 198.51.100.53\twhich way do packets to the DNS server go"},
        {"trace", cmd_trace, "trace the way to a TCP port, and name the hop that refuses", "HOST PORT", 2, 2, COMPLETE_NOTHING,
                NEEDS_SITE,
                ROWS(WAYS, OPTION_NO_CAPTURE, OPTION_JSON),
                "Sends SYNs with rising TTL: each router on the way answers for itself. An RST is not taken "
                "for arrival, since a device on the way can send one in the target's name: it is "
                "compared with how far away another port of the same host is. Hop after hop is written as it is "
                "known.\n\n" NAMES_BY_SITE,
                "gridnode trace repo.example.net 443\twhere on the way do packets end"},
        {"probe", cmd_probe, "make the cheap probe of a service that the daemon makes each minute", "[SERVICE]", 0, 1, COMPLETE_NOTHING,
                NEEDS_SITE | NEEDS_PROFILE,
                ROWS(OPTION_SERVER, OPTION_TARGET, OPTION_DNS_ONLY, OPTION_PROFILE, OPTION_SOURCE, OPTION_DEVICE,
                        OPTION_CONFIG, OPTION_ROOT, OPTION_JSON),
                "Asks one DNS server for the address of SERVICE's host, connects to one address and makes a TLS "
                "handshake, judged by the profile's pinned root. That takes about 3.5 kB in all, with the node's own certificate 4 to 6 kB "
                "(as IP packets, with chains of two certificates; a longer chain adds its length), and 3 seconds at most. "
                "Without SERVICE only the DNS server of --server is asked, for the host of the profile's first "
                "service.\n\n"
                "With --json: {\"schema\": 1, \"dns\": {\"server\", \"name\", \"outcome\": \"ok\" | \"timeout\" | "
                "\"wrong-address\" | ..., \"took_ms\", \"addresses\": []}, \"service\": {\"name\", \"address\", "
                "\"port\", \"state\": \"ok\" | \"failed\", \"stage\": \"tcp\" | \"tls\", \"reason\", \"detail\", "
                "\"took_ms\"}, \"bytes\": 5321}. What was not measured is null; addresses outside the profile's "
                "ranges are left out and never connected to; bytes are an estimate of what was sent and received.",
                "gridnode probe repo\tis the repository reachable\n"
                "gridnode probe repo --server 198.51.100.53 --address 198.51.100.20 --json\tby this server, at this address\n"
                "gridnode probe --server 198.51.100.53\tdoes the DNS server answer"},
        {"register", cmd_register, "give this node its identity, with a one-time token of its control plane", "URL", 1, 1, COMPLETE_NOTHING,
                NEEDS_NOTHING,
                ROWS(OPTION_TOKEN_FILE, OPTION_PIN, OPTION_ROOT_FINGERPRINT, OPTION_AGAIN, OPTION_CONFIG, OPTION_ROOT,
                        OPTION_PATIENCE, OPTION_JSON),
                "Makes a key that never leaves this machine, has it certified, and keeps certificate, root and "
                "profile. The token comes from 'gridplane node create' and is good once, for 24 hours. The root is "
                "pinned: no other authority is trusted, not even those of the system.\n\n"
                "When the answer is lost, the same command ends the same registration.",
                "gridnode register https://repo.grid.example --token-file token --root-ca root.pem\tregister with a root at hand\n"
                "gridnode register https://repo.grid.example --token-file - --root-fingerprint 4F:09:AB:CD\tthe root is fetched and compared"},
        {"renew", cmd_renew, "renew the node's certificate, with a new key", "", 0, 0, COMPLETE_NOTHING,
                NEEDS_NOTHING,
                ROWS(OPTION_CONFIG, OPTION_ROOT, OPTION_PATIENCE, OPTION_JSON),
                "The daemon does this by itself at two thirds of the certificate's life. It is possible for 90 days after "
                "the certificate's end, too.",
                "gridnode renew\tnow"},
        {"config", cmd_config, "show the configuration that the control plane wants for this node", "", 0, 0, COMPLETE_NOTHING,
                NEEDS_NOTHING,
                ROWS(OPTION_ETAG, OPTION_CONFIG, OPTION_ROOT, OPTION_PATIENCE, OPTION_JSON),
                "Fetches it with the node's certificate and checks it. What is in force is what 'gridnode status' says.",
                "gridnode config\tDNS servers, LAN interfaces and routes\n"
                "gridnode config --json\tthe document itself"},
        {"fetch", cmd_fetch, "fetch a file of the repository, as updates and images are fetched", "PATH", 1, 1, COMPLETE_NOTHING,
                NEEDS_NOTHING,
                ROWS(OPTION_TO_FILE, OPTION_SHA256, OPTION_DEADLINE, OPTION_CONFIG, OPTION_ROOT, OPTION_JSON),
                "Goes by the repository's port 443 at every address, and by the control service's port when that is blocked "
                "and the site file does not forbid it. What came is kept in FILE.part and not fetched again: the same "
                "command goes on after a cut, a crash or an interrupt. The bandwidth limit holds. Nothing appears as FILE that is not whole.",
                "gridnode fetch /debian/dists/stable/InRelease\tis the repository's list to be had\n"
                "gridnode fetch /.well-known/gridnode/payload?bytes=10000000 -o /dev/shm/speed\thow fast is the way"},
        {"explain", cmd_explain, "explain a cause that a diagnosis can name, or list all", "[CODE]", 0, 1, COMPLETE_CODE,
                NEEDS_NOTHING,
                ROWS(OPTION_JSON),
                "Says what the cause means, what proves it, what it must not be confused with, and what mends it.",
                "gridnode explain tcp.dropped\twhat does that mean"},
        {"run", cmd_run, "run the node's daemon", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_ROOT, OPTION_CONFIG),
                "Keeps the control channel, probes each service once a minute, diagnoses what fails and reports it, brings "
                "up the LANs and the wanted configuration, runs the tools that the control plane asks for. Loses no event: "
                "they are kept until the control plane has stored them.\n\n"
                "Started as root it starts gridnode-helper and becomes the user gridnode, when there is one, with the "
                "capabilities CAP_NET_RAW and CAP_NET_BIND_SERVICE. Ends with SIGTERM or SIGINT. The node must be registered.",
                "systemctl start gridnode\tthe usual way\n"
                "gridnode run --root /srv/node\twithout systemd, everything below one folder"},
        {"status", cmd_status, "show what the daemon knows: ways, jobs, configuration", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, OPTION_ROOT),
                "The WAN's address, DNS, control plane, software repository and configuration endpoint; the three jobs and "
                "what waits; the last diagnosis. For root and the group gridnode.",
                "gridnode status\tis all well"},
        {"events", cmd_events, "show the events that this node recorded", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_COUNT_OF, OPTION_FOLLOW, OPTION_JSON, OPTION_ROOT),
                "The oldest first. With --json one object a line.",
                "gridnode events --follow\tgo on with those to come"},
        {"update", cmd_update, "update this node's software, or show how its update stands", "", 0, 0, COMPLETE_NOTHING,
                NEEDS_NOTHING,
                ROWS(OPTION_CHECK, OPTION_DRY_RUN, OPTION_DOWNLOAD, OPTION_NOW, OPTION_CANCEL, OPTION_HISTORY, OPTION_CSV,
                        OPTION_OFFER_AGAIN, OPTION_NO_REBOOT, OPTION_NO_WAIT, OPTION_SUITE, OPTION_BY, OPTION_JSON, OPTION_ROOT),
                "The node's own package first, then the security packages of the operating system, then a restart of the machine "
                "when one of them needs it; all from the repository of the control plane and from nowhere else. A new version "
                "that does not reach the control plane within 10 minutes is put back, and not offered again.\n\n"
                "Without an option it shows the update that is under way, or the last one. It follows one until its end; an interrupt "
                "ends the looking, not the update. While the way to the repository is blocked an update waits, and says why.\n\n"
                "The daemon is asked, which updates by itself in the windows of the configuration. Where none runs, root may do the same.",
                "gridnode update --check\twhat would change\n"
                "gridnode update --now --no-reboot\tupdate, without a restart of the machine\n"
                "gridnode update --history --csv\tthe last 30 days, for a spreadsheet"},
        {"help", cmd_help, "show the help of a command", "[COMMAND]", 0, 1, COMPLETE_COMMAND,
                NEEDS_NOTHING,
                ROWS(OPTION_HELP),
                "The same as gridnode COMMAND --help; without COMMAND the list of commands.",
                "gridnode help diag\tthe options of diag"},
};
/* clang-format on */

const struct program program = {.name = "gridnode",
        .purpose = "name what blocks a node's way to its control plane",
        .description = "A node makes outbound connections only: to its control plane on ports 443 and 8443, "
                       "and to its "
                       "DNS servers. When one of them is blocked, the commands say by what, by whom, and "
                       "what proves it.",
        .commands = commands,
        .command_count = ELEMENTS(commands),
        .prepare = session_prepare,
        .files = ".SH FILES\n"
                 ".TP\n.I /etc/gridnode/site.conf\nThe site file: the node's name, its WAN, its LANs. "
                 "Everything has "
                 "a default.\n"
                 ".TP\n.I /etc/gridnode/profiles/NAME.profile\nA control plane to reach. Those that come "
                 "with the "
                 "program are in\n"
                 ".IR " GRIDNODE_DATA_DIR "/profiles .\n"
                 ".SH ENVIRONMENT\n"
                 ".TP\n.B GRIDNODE_PROFILE_PATH\nFolders, separated by colons, in which profiles are looked "
                 "up "
                 "first.\n"
                 ".TP\n.B NO_COLOR\nWhen it is set and not empty, no colour is used.\n"
                 ".TP\n.BR https_proxy ,\\  HTTPS_PROXY\nThe proxy, unless the site file names one.\n",
        .see_also = ".BR gridnode\\-site.conf (5),\n.BR gridnode\\-profile (5)\n"};
