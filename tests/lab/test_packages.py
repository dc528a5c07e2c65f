#!/usr/bin/python3
"""The Debian packages on real Debians under systemd: installed, upgraded, broken, repaired, removed and purged by apt.
test_packages.py [NAME-PART...]

Two machines of debian_root.py with a cable between them, and nothing of ours in them but what the packages bring: gridplane in
one, gridnode in the other. What they depend on comes from apt's cache: a dependency that is not declared is missing. The tests
stand on each other, in their order. Needs root. Ends with the line "N passed, N failed"."""

import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time

sys.dont_write_bytecode = True

import debian_root  # noqa: E402
from debian_root import expect, wait_until  # noqa: E402
from runner import run_test  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
BARE = ["systemd", "systemd-sysv", "iproute2", "procps", "openssl"]
PLANE, NODE = "192.0.2.20", "192.0.2.10"
STATE = "/var/lib/gridnode"
OURS = ["gridnode.service", "gridnode.path", "gridnode-helper.socket"]
DEBIANS_OWN = ["nginx.service", "mosquitto.service", "docker-registry.service"]
MOST_DOWN_S = 5  # of the daemon, in an upgrade


def debs(*words):
    """What tools/debs prints: the paths of packages."""
    done = subprocess.run([ROOT / "tools/debs", *map(str, words)], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    expect(done.returncode == 0, done.stdout)
    return [pathlib.Path(line) for line in done.stdout.split()]


def field(deb, name):
    return subprocess.run(["dpkg-deb", "-f", deb, name], text=True, capture_output=True, check=True).stdout.strip()


def depends(deb):
    """The first of each of its alternatives."""
    return [item.split("|")[0].split("(")[0].strip() for item in field(deb, "Depends").split(",")]


class Site:
    """The two machines, the cable, a DNS server at the plane's address, and the packages."""

    def __init__(self):
        self.node_deb, self.plane_deb = debs()
        self.version = field(self.node_deb, "Version")
        self.newer = f"{self.version}+newer"
        self.newer_node_deb, self.newer_plane_deb = debs("--version", self.newer)
        offered = sorted({*depends(self.node_deb), *depends(self.plane_deb)} - set(BARE))
        self.plane = debian_root.Machine("packages", BARE, offered)
        self.node = debian_root.Machine("packages", BARE, offered)
        self.folder = tempfile.TemporaryDirectory(prefix="gridnode-packages-", dir="/var/tmp")
        self.dns = None

    def boot(self):
        self.plane.boot()
        self.node.boot()
        self.node.add_link("eth0", self.plane.pid, "eth0")
        for machine, address in ((self.plane, PLANE), (self.node, NODE)):
            machine.ip("link", "set", "eth0", "up")
            machine.ip("addr", "add", f"{address}/24", "dev", "eth0")
        self.node.ip("route", "add", "default", "via", PLANE)
        configuration = pathlib.Path(self.folder.name) / "unbound.conf"
        configuration.write_text(debian_root.UNBOUND.format(plane=PLANE, folder=self.folder.name))
        self.dns = subprocess.Popen(["nsenter", "-t", str(self.plane.pid), "-n", "unbound", "-d", "-c", configuration],
                                    stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    def close(self):
        if self.dns:
            self.dns.kill()
            self.dns.wait()
        try:
            self.node.close()
        finally:
            self.plane.close()
            self.folder.cleanup()

    def repack(self, *words):
        """Another package from the newer one of the node."""
        made, = debs("--repack", self.newer_node_deb, "--output", self.folder.name, *words)
        return made

    def plane_lists(self):
        """The node as the plane knows it."""
        items = json.loads(self.plane.run("gridplane", "node", "list", "--json").stdout)["items"]
        return items[0] if items else {"connected": False}


def apt(machine, *words, check=True):
    return machine.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "--no-install-recommends",
                       "--option=Dpkg::Options::=--force-confold", *words, check=check, timeout=180)


def install(machine, deb, check=True):
    place = machine.path("/var/tmp") / deb.name
    place.write_bytes(deb.read_bytes())
    return apt(machine, "install", f"/var/tmp/{deb.name}", check=check)


def installed(machine, package):
    return machine.run("dpkg-query", "-W", "-f", "${Status} ${Version}", package, check=False).stdout


def is_active(machine, unit):
    return machine.show(unit, "ActiveState") == "active"


def is_enabled(machine, unit):
    return machine.run("systemctl", "is-enabled", unit, check=False).stdout.strip()


def failed_units(machine):
    return machine.run("systemctl", "--failed", "--plain", "--no-legend").stdout


def is_connected(site, version):
    """By the plane's own view, with what the daemon says it is."""
    seen = site.plane_lists()
    return seen["connected"] and json.loads(site.node.run("gridnode", "status", "--json").stdout)["version"] == version


def left_of(machine, word):
    """Files with this word in their name, but for what the tests brought and what dpkg and the journal keep by themselves."""
    done = machine.run("find", "/", "-xdev", "(", "-path", "/var/tmp", "-o", "-path", "/proc", "-o", "-path", "/sys", ")", "-prune",
                       "-o", "-name", f"*{word}*", "-print")
    run = machine.run("find", "/run", "-name", f"*{word}*", "-not", "-path", "/run/log/*", "-not", "-path", "/run/systemd/*")
    return done.stdout.split() + run.stdout.split()


# ---- a bare machine ----

def test_node_installs(site):
    node = site.node
    done = install(node, site.node_deb)
    node.read_users()
    expect(installed(node, "gridnode") == f"install ok installed {site.version}", done.stdout)
    expect(node.run("gridnode", "--version").stdout == f"gridnode {site.version}\n", "its own version")
    expect("tcp.dropped" in node.run("gridnode", "explain", "tcp.dropped").stdout, "the tools work")
    expect(node.run("dpkg", "--verify", "gridnode").stdout == "", "what was installed is there")
    for unit in OURS:
        expect(is_enabled(node, unit) == "enabled", unit, is_enabled(node, unit))
    expect(is_active(node, "gridnode.path") and is_active(node, "gridnode-helper.socket"), done.stdout)
    expect(node.show("gridnode.service", "ActiveState") == "inactive", "nothing to do before it is registered")
    expect(node.show("gridnode.service", "ConditionResult") == "no", node.journal("gridnode"))
    expect(failed_units(node) == "", failed_units(node))
    for inside, owner, mode in ((STATE, "gridnode", 0o755), ("/etc/gridnode", "root", 0o755)):
        stat = node.path(inside).stat()
        expect(stat.st_uid == node.users[owner] and stat.st_mode & 0o777 == mode, inside, stat)


def test_plane_installs(site):
    plane = site.plane
    done = install(plane, site.plane_deb)
    plane.read_users()
    expect(installed(plane, "gridplane") == f"install ok installed {site.version}", done.stdout)
    expect(is_enabled(plane, "gridplane.service") == "disabled" and not is_active(plane, "gridplane.service"), "it needs a domain first")
    for unit in DEBIANS_OWN:
        expect(is_active(plane, unit) and is_enabled(plane, unit) == "enabled", "Debian's own are left alone", unit)
    expect(failed_units(plane) == "", failed_units(plane))
    state = plane.path("/var/lib/gridplane").stat()
    expect(state.st_uid == plane.users["gridplane"] and state.st_mode & 0o777 == 0o700, state)


def test_every_command_has_its_page(site):
    """The commands are those of the program's own help."""
    for machine, program in ((site.node, "gridnode"), (site.plane, "gridplane")):
        commands = machine.run(program, "help").stdout.split("\nCommands:\n")[1].split("\n\n")[0].splitlines()
        names = [program, *(f"{program}-{re.match('  ([a-z]+( [a-z-]+)?)  ', line)[1].replace(' ', '-')}" for line in commands)]
        expect(len(names) > 10, names)
        missing = [name for name in names if not machine.path(f"/usr/share/man/man1/{name}.1.gz").exists()]
        expect(not missing, missing)


# ---- in use ----

def test_plane_starts(site):
    """Beside Debian's own services, whose ports it does not take."""
    plane = site.plane
    plane.write("/etc/gridplane/gridplane.conf", f"[plane]\ndomain = grid.example\n[profile]\nranges = {PLANE}/32\n")
    done = plane.run("systemctl", "enable", "--now", "gridplane.service", check=False)
    expect(done.returncode == 0 and is_active(plane, "gridplane.service"), done.stdout, plane.journal("gridplane"))
    expect(all(is_active(plane, unit) for unit in DEBIANS_OWN), "and they go on")


def test_the_plane_publishes_packages(site):
    """With what its package depends on, in its unit's sandbox: reprepro and gpg are its children."""
    plane = site.plane
    (plane.path("/var/tmp") / site.newer_node_deb.name).write_bytes(site.newer_node_deb.read_bytes())
    done = plane.run("gridplane", "package", "add", f"/var/tmp/{site.newer_node_deb.name}", check=False)
    expect(done.returncode == 0, done.stdout, plane.journal("gridplane"))
    items = json.loads(plane.run("gridplane", "package", "list", "--json").stdout)["items"]
    expect([(item["package"], item["version"]) for item in items] == [("gridnode", site.newer)], items)


def test_registration_starts_the_daemon(site):
    node, plane = site.node, site.plane
    node.write("/etc/gridnode/site.conf",
               f"[node]\nname = branch-12\n[wan]\ninterface = eth0\naddress = none\ndns = {PLANE}\n[monitor]\ninterval = 5\n")
    plane.run("gridplane", "node", "create", "branch-12", "--site", "leeds", "--output", "/root/token")
    node.write("/root/token", plane.read("/root/token"), mode=0o600)
    node.write("/root/root.pem", plane.read("/var/lib/gridplane/ca/root.crt"))
    node.run("gridnode", "register", "https://repo.grid.example", "--token-file", "/root/token", "--root-ca", "/root/root.pem")
    wait_until("the daemon", lambda: is_active(node, "gridnode.service"))
    wait_until("the channel", lambda: is_connected(site, site.version))


def test_a_stopped_daemon_stays_stopped(site):
    site.node.run("systemctl", "stop", "gridnode.service")
    time.sleep(1)
    expect(not is_active(site.node, "gridnode.service"), "gridnode.path started it again", site.node.journal("gridnode"))
    site.node.run("systemctl", "start", "gridnode.service")
    wait_until("the channel", lambda: is_connected(site, site.version))


def identity_of(machine):
    return [machine.read(f"{STATE}/{name}") for name in ("identity.json", "node.key", "node.crt")]


def moment(machine, which):
    """A timestamp of the daemon's unit, in seconds of the monotonic clock."""
    return int(machine.show("gridnode.service", f"{which}TimestampMonotonic")) / 1e6


def test_upgrade_restarts_the_daemon(site):
    node = site.node
    before, events = identity_of(node), node.path(f"{STATE}/state.db").stat().st_ino
    pid, _ = node.main_pid("gridnode.service")
    node.run("systemctl", "start", "gridnode-helper.service")
    helper, _ = node.main_pid("gridnode-helper.service")
    done = install(node, site.newer_node_deb)
    expect(installed(node, "gridnode") == f"install ok installed {site.newer}", done.stdout)
    expect(node.main_pid("gridnode.service")[0] != pid, "another process", done.stdout)
    expect(is_active(node, "gridnode.service") and node.show("gridnode.service", "NRestarts") == "0", node.journal("gridnode"))
    down = moment(node, "ActiveEnter") - moment(node, "ActiveExit")
    print(f"the daemon was away for {down:.2f} s")
    expect(0 < down < MOST_DOWN_S, down)
    expect(identity_of(node) == before, "the identity stays")
    expect(node.path(f"{STATE}/state.db").stat().st_ino == events, "what it has not told stays")
    expect(is_active(node, "gridnode-helper.socket") and is_active(node, "gridnode.path"), done.stdout)
    expect(helper not in node.processes(), "no helper of the older version is left")
    expect(failed_units(node) == "", failed_units(node))
    wait_until("the channel, of the newer daemon", lambda: is_connected(site, site.newer))


def test_the_old_daemon_works_during_the_unpack(site):
    """Unpacked is not configured: what runs is still the old one, connected."""
    node = site.node
    pid, _ = node.main_pid("gridnode.service")
    (node.path("/var/tmp") / site.node_deb.name).write_bytes(site.node_deb.read_bytes())
    node.run("dpkg", "--unpack", f"/var/tmp/{site.node_deb.name}")
    expect(is_active(node, "gridnode.service") and node.main_pid("gridnode.service")[0] == pid, node.journal("gridnode"))
    expect(is_connected(site, site.newer), "the newer one, while the older one's files are in place")
    node.run("dpkg", "--configure", "gridnode")
    expect(node.main_pid("gridnode.service")[0] != pid, "and it goes when that is configured")
    wait_until("the channel, of the older daemon", lambda: is_connected(site, site.version))


def test_upgrade_of_the_plane(site):
    plane = site.plane
    pid, _ = plane.main_pid("gridplane.service")
    root = plane.read("/var/lib/gridplane/ca/root.crt")
    install(plane, site.newer_plane_deb)
    expect(is_active(plane, "gridplane.service") and plane.main_pid("gridplane.service")[0] != pid, plane.journal("gridplane"))
    expect(plane.read("/var/lib/gridplane/ca/root.crt") == root, "the authority stays")
    wait_until("the node comes back", lambda: is_connected(site, site.version), 60)


def test_upgrade_leaves_a_disabled_daemon_alone(site):
    node = site.node
    node.run("systemctl", "disable", "--now", "gridnode.service", "gridnode.path")
    install(node, site.newer_node_deb)
    expect(is_enabled(node, "gridnode.service") == "disabled" and not is_active(node, "gridnode.service"), node.journal("gridnode"))
    node.run("systemctl", "enable", "--now", "gridnode.service", "gridnode.path")
    wait_until("the channel", lambda: is_connected(site, site.newer))


# ---- packages with a defect ----

def test_a_daemon_that_does_not_start(site):
    """dpkg is content with it, and that is why somebody must look after an update."""
    node = site.node
    install(node, site.repack("--version", f"{site.newer}.1", "--defect", "daemon"))
    expect(installed(node, "gridnode") == f"install ok installed {site.newer}.1", "installed")
    wait_until("it fails", lambda: "was made not to start" in node.journal("gridnode"))
    expect(not is_active(node, "gridnode.service"), node.journal("gridnode"))
    install(node, site.repack("--version", f"{site.newer}.2"))
    wait_until("the next version mends it", lambda: is_connected(site, site.newer))


def test_a_package_that_cannot_be_configured(site):
    node = site.node
    pid, _ = node.main_pid("gridnode.service")
    done = install(node, site.repack("--version", f"{site.newer}.3", "--defect", "postinst"), check=False)
    expect(done.returncode != 0 and "was made to fail" in done.stdout, done.stdout)
    expect(installed(node, "gridnode").startswith("install ok half-configured"), installed(node, "gridnode"))
    expect(node.main_pid("gridnode.service")[0] == pid, "what ran goes on")
    install(node, site.repack("--version", f"{site.newer}.4"))
    expect(installed(node, "gridnode") == f"install ok installed {site.newer}.4", installed(node, "gridnode"))


def test_a_conffile_that_changed_on_both_sides(site):
    node, name = site.node, "/etc/gridnode/example.conf"
    install(node, site.repack("--version", f"{site.newer}.5", "--conffile", f"{name}=first"))
    node.write(name, "ours\n")
    install(node, site.repack("--version", f"{site.newer}.6", "--conffile", f"{name}=second"))
    expect(node.read(name) == "ours\n" and node.read(f"{name}.dpkg-dist") == "second\n", "kept, the new one beside it")


# ---- the end ----

def test_removal_keeps_the_state(site):
    node = site.node
    before = identity_of(node)
    apt(node, "remove", "gridnode")
    expect(not node.path("/usr/bin/gridnode").exists() and identity_of(node) == before, "state and key stay")
    for unit in [*OURS, "gridnode-helper.service"]:
        expect(node.show(unit, "ActiveState") == "inactive", unit)
    expect(not any(status["Name"].startswith("gridnode") for status in node.processes().values()), node.processes())
    install(node, site.newer_node_deb)
    wait_until("installed again, it goes on as the same node", lambda: is_connected(site, site.newer))


def test_purge_leaves_nothing(site):
    for machine, package in ((site.node, "gridnode"), (site.plane, "gridplane")):
        uid = machine.users[package]
        apt(machine, "purge", package)
        machine.read_users()
        left = left_of(machine, package)
        expect(not left, left)
        expect(machine.users.get(package) == uid, "the user stays")
        expect(not [status["Name"] for status in machine.processes().values() if str(uid) in status["Uid"].split()], "processes")
        expect(failed_units(machine) == "", failed_units(machine))
    expect(all(is_active(site.plane, unit) for unit in DEBIANS_OWN), "Debian's own go on")


def main():
    tests = [f for name, f in globals().items() if name.startswith("test_")]
    wanted = [f for f in tests if not sys.argv[1:] or any(part in f.__name__ for part in sys.argv[1:])]
    started = time.monotonic()
    site = Site()
    print(f"packages within {time.monotonic() - started:.1f} s", flush=True)
    try:
        site.boot()
        print(f"booted within {time.monotonic() - started:.1f} s", flush=True)
        results, stands = [], True
        for function in wanted:
            if stands:
                results.append(run_test(function, site))
                stands = results[-1] or function is test_every_command_has_its_page
            else:
                print(f"FAILED {function.__name__}: what it stands on has failed", flush=True)
                results.append(False)
    finally:
        site.close()
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


sys.exit(main())
