/* gridplane: the control plane's commands. */
#include "cli/commands_gridplane.h"
#include "cli/program.h"

#include "base/cleanup.h"

#define HERE       OPTION_ROOT, OPTION_ORGANISATION
#define NODE_IS    "NODE is a node's name or its id. "
#define UPGRADE_IS "UPGRADE is its id or its name; of that name the newest. "

/* clang-format off */
static const struct command commands[] = {
        {"serve", cmd_serve, "run the control plane", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_ROOT, OPTION_PLANE_CONFIG, OPTION_DOMAIN, OPTION_LISTEN, OPTION_LOG_ALL),
                "Makes what is missing - certificate authority, database, configurations - and starts nginx, mosquitto and "
                "docker-registry as its children, or uses those that gridplane.conf names. Serves HTTPS on both ports; the "
                "second also passes MQTT to the broker, by ALPN. Runs until SIGTERM or SIGINT, and stops its children then.",
                "gridplane serve --root /srv/grid --domain grid.example --listen 443,8443\teverything below one folder\n"
                "gridplane serve\tas /etc/gridplane/gridplane.conf says"},
        {"check", cmd_check, "say what would keep serve from working", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_ROOT, OPTION_PLANE_CONFIG, OPTION_DOMAIN, OPTION_LISTEN, OPTION_JSON),
                "Looks at ports, clock, disk, certificates, programs, folders and gridplane.conf, and starts nothing. Ends "
                "with 0 when nothing is in the way, with 3 for warnings only, with 1 when serve would not work.",
                "gridplane check --root /srv/grid --domain grid.example\tbefore it is started"},
        {"node create", cmd_node_create, "make a node, and print the token that registers it", "NAME", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_SITE, OPTION_OUTPUT, OPTION_JSON, HERE),
                "The token is shown once, works once, and expires after 24 hours. It goes to standard output alone.",
                "gridplane node create branch-12 --site leeds > token\tthen: gridnode register --token-file token"},
        {"node token", cmd_node_token, "print a new token for a node that is to be registered again", "NODE", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_OUTPUT, OPTION_JSON, HERE),
                NODE_IS "For a machine that was replaced. Former tokens die; certificates go on until the new registration.",
                "gridplane node token branch-12 --output token\tkeep it in a file"},
        {"node list", cmd_node_list, "list the nodes", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_NAME, OPTION_SITE, OPTION_CAUSE, OPTION_TAG, OPTION_JSON, HERE),
                "One line a node.",
                "gridplane node list --cause tcp.dropped\twhich nodes are blocked by a firewall"},
        {"node show", cmd_node_show, "show what is known of a node", "NODE", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, HERE), NODE_IS, "gridplane node show branch-12\tstatus, configuration, certificate"},
        {"node remove", cmd_node_remove, "remove a node: its certificates are revoked", "NODE", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(HERE), NODE_IS "Its connection ends at once, its id is never used again, its events stay.",
                "gridplane node remove branch-12\tit is scrapped"},
        {"node config", cmd_node_config, "show or replace a node's wanted configuration", "NODE [FILE]", 1, 2, COMPLETE_FILE, NEEDS_NOTHING,
                ROWS(OPTION_JSON, HERE),
                NODE_IS "With FILE (- for standard input) the JSON document there becomes the next version; one that names a "
                "\"version\" replaces just that one, and is refused when somebody was quicker.",
                "gridplane node config branch-12 > c.json\tedit it, then\n"
                "gridplane node config branch-12 c.json\tmake it the wanted one"},
        {"node tool", cmd_node_tool, "run a tool on a node, and show its output as it comes", "NODE TOOL [ARGUMENT]...", 2, -1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_TOOL_TIMEOUT, HERE),
                NODE_IS "TOOL is diag, tcp, dns, tls, route or trace, with the arguments it has by hand; options of the tool "
                "come after --. An interrupt ends the tool. The exit status is the tool's.",
                "gridplane node tool branch-12 tcp repo.grid.example 443\tis the port open from there\n"
                "gridplane node tool branch-12 -- diag --verbose\twith the tool's options"},
        {"node tag", cmd_node_tag, "show, set or remove a node's tags", "NODE [KEY=VALUE]...", 1, -1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_REMOVE_TAGS, OPTION_JSON, HERE),
                NODE_IS "Lists and upgrades choose nodes by tags. With manualupdate=true no upgrade takes the node, and it does not "
                "update itself either; a person at it may.",
                "gridplane node tag branch-12 ring=canary owner=leeds-it\tset two\n"
                "gridplane node tag branch-12 --remove owner\ttake one off"},
        {"node update", cmd_node_update, "update one node's software, and show how it goes on", "NODE", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_CHECK, OPTION_DRY_RUN, OPTION_DOWNLOAD, OPTION_NOW, OPTION_CANCEL, OPTION_OFFER_AGAIN,
                        OPTION_NO_REBOOT, OPTION_NO_WAIT, HERE),
                NODE_IS "The node's own command gridnode update, as gridplane node tool runs it. Without an option it shows the update "
                "that is under way, or the last one. An interrupt, or 10 minutes, end the looking; the update goes on.",
                "gridplane node update branch-12 --dry-run\twhat would change\n"
                "gridplane node update branch-12 --now\tupdate it now"},
        {"update list", cmd_update_list, "list the software updates of nodes", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_NODE, OPTION_UPDATE_STATUS, OPTION_SINCE, OPTION_CSV, OPTION_JSON, HERE),
                "The newest first, those of the last 30 days.",
                "gridplane update list --status Failed\twhich failed\n"
                "gridplane update list --csv > updates.csv\tfor a spreadsheet"},
        {"update show", cmd_update_show, "show an update with its steps and the end of its log", "ID", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, HERE), "ID is one of update list.", "gridplane update show ID\twhy it failed"},
        {"upgrade plan", cmd_upgrade_plan, "plan an upgrade of many nodes", "NAME", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_INCLUDE, OPTION_EXCLUDE, OPTION_SITES, OPTION_WAVES, OPTION_STOP_AT, OPTION_LIMIT, OPTION_CHANNEL,
                        OPTION_JSON, HERE),
                "Nothing is asked of any node before upgrade start. The next wave begins when the one before has ended; when more "
                "than --stop-at per cent of the nodes begun have failed, the upgrade stops itself. Nodes tagged manualupdate=true "
                "and those that have the newest version are left out.",
                "gridplane upgrade plan spring --waves 5%,25%,100% --exclude ring=late\tcanaries first\n"
                "gridplane upgrade dry-run spring\twho would be in which wave"},
        {"upgrade dry-run", cmd_upgrade_dry_run, "show who would be upgraded in which wave, and who not and why", "UPGRADE", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_ASK, OPTION_JSON, HERE),
                UPGRADE_IS "Asks no node, unless --ask: then each that is connected tells, one after the other, what would change there.",
                "gridplane upgrade dry-run spring\tlook before it is started"},
        {"upgrade start", cmd_upgrade_start, "start a planned upgrade", "UPGRADE", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, HERE), UPGRADE_IS "One at a time in an organisation.", "gridplane upgrade start spring\tthe first wave begins"},
        {"upgrade pause", cmd_upgrade_pause, "let no further node begin", "UPGRADE", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, HERE), UPGRADE_IS "Those that are WORKING go on.", "gridplane upgrade pause spring\tsomebody calls"},
        {"upgrade resume", cmd_upgrade_resume, "go on with an upgrade that was paused or stopped itself", "UPGRADE", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, HERE), UPGRADE_IS "One that stopped itself needs upgrade retry first.", "gridplane upgrade resume spring\tgo on"},
        {"upgrade cancel", cmd_upgrade_cancel, "end an upgrade", "UPGRADE", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, HERE), UPGRADE_IS "Those that have not begun are SKIPPED; those that are WORKING go on.",
                "gridplane upgrade cancel spring\tnot today"},
        {"upgrade retry", cmd_upgrade_retry, "take up the nodes in ERROR again", "UPGRADE", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, HERE), UPGRADE_IS "An upgrade that was over, or had stopped itself, goes on.",
                "gridplane upgrade retry spring\tthe cause is mended"},
        {"upgrade status", cmd_upgrade_status, "show how an upgrade stands, or list all", "[UPGRADE]", 0, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, OPTION_TIMELINE, HERE),
                UPGRADE_IS "Counts by wave and state, then each node with its reason. --timeline adds what happened when.",
                "gridplane upgrade status\tall of them\n"
                "gridplane upgrade status spring --timeline\tone, and what happened"},
        {"upgrade export", cmd_upgrade_export, "write an upgrade's nodes as comma-separated values", "UPGRADE", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(HERE), UPGRADE_IS "One line for each node: wave, state, reason, times.", "gridplane upgrade export spring > spring.csv\tfor a spreadsheet"},
        {"event list", cmd_event_list, "list events", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_NODE, OPTION_NAME, OPTION_CAUSE, OPTION_SEVERITY, OPTION_SINCE, OPTION_UNTIL, OPTION_CSV,
                        OPTION_JSON, OPTION_FOLLOW, HERE),
                "The oldest first, each with the diagnosis that explains it.",
                "gridplane event list --since 6h --severity ERROR\twhat failed today\n"
                "gridplane event list --csv > events.csv\tfor a spreadsheet"},
        {"report list", cmd_report_list, "list the diagnoses that nodes made", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_NODE, OPTION_VERDICT, OPTION_SINCE, OPTION_UNTIL, OPTION_JSON, HERE), "The newest first, with what each concluded.",
                "gridplane report list --node branch-12\tof one node"},
        {"report show", cmd_report_show, "show a diagnosis with its measurements, as JSON", "ID", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(HERE), "As gridnode diag --json writes it; ID is a report's, of event list --json or report list.",
                "gridplane report show ID | gridnode diag --replay -\tas text, concluded anew"},
        {"incident list", cmd_incident_list, "list what many nodes reported at the same time", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_OPEN, OPTION_SINCE, OPTION_UNTIL, OPTION_JSON, HERE),
                "The same cause against the same range and port, from at least 5 nodes of at least 2 sites within 10 minutes: "
                "an incident of the control plane or of a carrier.",
                "gridplane incident list --open\twhat goes on"},
        {"user add", cmd_user_add, "add a person", "NAME", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_ROLE, OPTION_PASSWORD_FILE, OPTION_JSON, HERE),
                "The password, of at least 12 characters, is asked for on the terminal unless a file has it.",
                "gridplane user add alice --role admin\tthe first one"},
        {"user list", cmd_user_list, "list the people", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_NAME, OPTION_OF_ROLE, OPTION_JSON, HERE), "One line each.", "gridplane user list --org acme\tof another organisation"},
        {"user password", cmd_user_password, "set a person's password", "NAME", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_PASSWORD_FILE, HERE), "The sessions of that person end.", "gridplane user password alice\tit was forgotten"},
        {"user remove", cmd_user_remove, "remove a person", "NAME", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(HERE), "The sessions of that person end.", "gridplane user remove alice\tshe left"},
        {"token add", cmd_token_add, "make an API token for a program, and print it", "NAME", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_ROLE, OPTION_EXPIRES, OPTION_OUTPUT, OPTION_JSON, HERE),
                "It is shown once. Programs send it as \"Authorization: Bearer TOKEN\".",
                "gridplane token add prometheus --role viewer --output token\tfor the scraper"},
        {"token list", cmd_token_list, "list the API tokens", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_NAME, OPTION_OF_ROLE, OPTION_JSON, HERE), "Their names and roles; the tokens themselves are known to nobody.",
                "gridplane token list\twho has one"},
        {"token remove", cmd_token_remove, "remove an API token", "NAME", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(HERE), "It is refused from then on.", "gridplane token remove prometheus\tit leaked"},
        {"org add", cmd_org_add, "add an organisation", "NAME", 1, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, OPTION_ROOT), "Every node, person and event belongs to one, and nothing crosses.",
                "gridplane org add acme\ta new customer"},
        {"org list", cmd_org_list, "list the organisations", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_NAME, OPTION_JSON, OPTION_ROOT), "One line each.", "gridplane org list\tall of them"},
        {"audit list", cmd_audit_list, "list who changed what, and when", "", 0, 0, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_ACTOR, OPTION_ACTION, OPTION_OBJECT, OPTION_SINCE, OPTION_UNTIL, OPTION_JSON, HERE), "The newest first.",
                "gridplane audit list --object branch-12 --since 2d\twho was it"},
        {"package add", cmd_package_add, "publish Debian packages in the organisation's repository", "FILE...", 1, -1, COMPLETE_FILE, NEEDS_NOTHING,
                ROWS(OPTION_CHANNEL, OPTION_JSON, HERE),
                "Into the channel stable unless --channel says otherwise. Each FILE.deb is looked at, signed for and published "
                "before the next; a client sees the repository before it or after it, nothing in between. A channel has one "
                "version of a package for each architecture: the newest. The content of a version never changes.",
                "gridplane package add gridnode_0.2.0_amd64.deb --channel testing\ttry it first\n"
                "gridplane package add *.deb --channel security\tDebian's own, for nodes that reach no mirror"},
        {"package list", cmd_package_list, "list the packages of the repository", "[PACKAGE]", 0, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_CHANNEL, OPTION_JSON, HERE), "One line for each channel and architecture.",
                "gridplane package list gridnode\twhich version is where"},
        {"package remove", cmd_package_remove, "take a package out of a channel", "PACKAGE[:ARCHITECTURE][=VERSION]...", 1, -1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_CHANNEL, OPTION_JSON, HERE),
                "Out of stable unless --channel says otherwise. Its file goes when no channel has it any more.",
                "gridplane package remove gridnode=0.2.0\tit was no good"},
        {"package promote", cmd_package_promote, "copy packages from one channel into another", "FROM TO [PACKAGE]...", 2, -1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, HERE), "All of them, or only those that are named.",
                "gridplane package promote testing stable\twhat was tried is for everybody"},
        {"package key", cmd_package_key, "show or rotate the key that signs the repository", "[show|rotate]", 0, 1, COMPLETE_NOTHING, NEEDS_NOTHING,
                ROWS(OPTION_JSON, HERE),
                "rotate makes a new key. The former one signs beside it for 30 days ([repository] key-overlap-days in "
                "gridplane.conf), so that nodes have time to fetch the new one: after that it is deleted.",
                "gridplane package key\twhich keys there are\n"
                "gridplane package key rotate\tonce in two years, or at once when one leaked"},
        {"help", cmd_help, "show the help of a command", "[COMMAND]...", 0, 2, COMPLETE_COMMAND, NEEDS_NOTHING,
                ROWS(OPTION_HELP), "The same as gridplane COMMAND --help; without COMMAND the list of commands.",
                "gridplane help node create\tthe options of node create"},
};
/* clang-format on */

const struct program program = {.name = "gridplane",
        .purpose = "the control plane of gridnodes: registers them, watches them, tells what they report",
        .description = "One machine, one command: gridplane serve. The other commands speak to the one that "
                       "runs, through "
                       "a socket that root and its own user may open.",
        .commands = commands,
        .command_count = ELEMENTS(commands),
        .files = ".SH FILES\n.TP\n.I /etc/gridplane/gridplane.conf\nThe settings, see\n.BR gridplane.conf "
                 "(5).\n"
                 ".TP\n.I /var/lib/gridplane\nThe database, the certificate authority, the images.\n"
                 ".TP\n.I /run/gridplane/admin.sock\nThe socket of the commands.\n",
        .see_also = ".BR gridplane.conf (5)\n"};
