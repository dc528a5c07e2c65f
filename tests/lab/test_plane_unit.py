#!/usr/bin/python3
"""gridplane.service on a real Debian under systemd, with its real children, and a node of another such machine.
test_plane_unit.py BUILD-FOLDER [NAME-PART...]

Two machines of debian_root.py with a cable between them: one with nginx, mosquitto and docker-registry as Debian installs them (its
own services run), the other with gridnode alone. Needs root. Ends with the line "N passed, N failed"."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import debian_root  # noqa: E402
from debian_root import expect, wait_until  # noqa: E402
from runner import run_test  # noqa: E402

SERVERS = ["nginx-light", "libnginx-mod-stream", "mosquitto", "docker-registry", "reprepro", "gpg", "gpg-agent"]
DEBIANS_OWN = {"nginx.service", "mosquitto.service", "docker-registry.service"}
UNIT, STATE = "gridplane.service", "/var/lib/gridplane"
PLANE, NODE = "192.0.2.20", "192.0.2.10"
HOSTS = {"repo.grid.example": 443, "control.grid.example": 8443}
CAP_NET_BIND_SERVICE = 1 << 10


class Site:
    """The two machines, the cable, and a DNS server at the plane's address."""

    def __init__(self, build):
        self.build = build
        self.plane = debian_root.Machine("plane", [*debian_root.RUNTIME, *SERVERS])
        self.node = debian_root.Machine("units", debian_root.RUNTIME)
        self.dns = None

    def __enter__(self):
        try:
            self.plane.boot(self.build)
            self.node.boot(self.build)
            self.node.add_link("eth0", self.plane.pid, "eth0")
            for machine, address in ((self.plane, PLANE), (self.node, NODE)):
                machine.ip("link", "set", "eth0", "up")
                machine.ip("addr", "add", f"{address}/24", "dev", "eth0")
            self.node.ip("route", "add", "default", "via", PLANE)
            configuration = self.plane.folder / "unbound.conf"
            configuration.write_text(debian_root.UNBOUND.format(plane=PLANE, folder=self.plane.folder))
            self.dns = subprocess.Popen(["nsenter", "-t", str(self.plane.pid), "-n", "unbound", "-d", "-c", configuration],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            self.node.write("/etc/gridnode/site.conf",
                            f"[node]\nname = branch-12\n[wan]\ninterface = eth0\naddress = none\ndns = {PLANE}\n[monitor]\ninterval = 5\n")
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        if self.dns:
            self.dns.kill()
            self.dns.wait()
        self.node.close()
        self.plane.close()

    # ---- the plane ----

    def write_conf(self):
        self.plane.write("/etc/gridplane/gridplane.conf", f"[plane]\ndomain = grid.example\n[profile]\nranges = {PLANE}/32\n")

    def start(self):
        """Ready when the call returns: the unit is of type notify."""
        done = self.plane.run("systemctl", "start", UNIT, check=False)
        expect(done.returncode == 0, done.stdout, self.plane.journal("gridplane"))

    def is_active(self):
        return self.plane.show(UNIT, "ActiveState") == "active"

    def group(self):
        """Names of the processes that systemd counts to the unit, by this host's numbers."""
        wanted = self.plane.show(UNIT, "ControlGroup")
        found = {}
        for pid, status in self.plane.processes().items():
            try:
                lines = pathlib.Path(f"/proc/{pid}/cgroup").read_text().splitlines()
            except OSError:
                continue
            if wanted and any(line.endswith(wanted) for line in lines if line.split(":")[1] in ("", "name=systemd")):
                found[pid] = status
        return found

    def names(self):
        return sorted(status["Name"] for status in self.group().values())

    def of_the_plane(self):
        """Everything that runs as its user, in its group or not."""
        user = str(self.plane.users["gridplane"])
        return {pid: status["Name"] for pid, status in self.plane.processes().items() if user in status["Uid"].split()}

    def command(self, *words):
        return self.plane.run("gridplane", *words).stdout

    def node_answers(self):
        """A request goes to the node, and its output comes back: what the database says of a connection may be old."""
        return self.plane.run("gridplane", "node", "tool", "branch-12", "--", "tcp", "repo.grid.example", "443", check=False).returncode == 0

    # ---- asking it from outside ----

    def from_node(self, *words, stdin=None):
        """A program of this host's in the node's network, with the node's files at hand."""
        return subprocess.run(["nsenter", "-t", str(self.node.pid), "-n", *map(str, words)], capture_output=True, text=True,
                              errors="replace", timeout=30, check=False, **({"input": stdin} if stdin else {"stdin": subprocess.DEVNULL}))

    def identity(self):
        state = self.node.path("/var/lib/gridnode")
        return state / "node.crt", state / "node.key"

    def ask(self, host, path, *words, with_certificate=True):
        """Status and text of an HTTPS answer."""
        certificate, key = self.identity()
        mine = ["--cert", certificate, "--key", key] if with_certificate else []
        port = HOSTS[host]
        done = self.from_node("curl", "-sS", "--max-time", 10, "--cacert", self.plane.path(f"{STATE}/ca/root.crt"), "--resolve",
                              f"{host}:{port}:{PLANE}", *mine, *words, "-w", "\n%{http_code}", f"https://{host}:{port}{path}")
        expect(done.returncode == 0, done.stderr)
        text, _, status = done.stdout.rpartition("\n")
        return int(status), text


# ---- the tests: a story, in this order ----

def test_without_a_domain(site):
    """What only its operator can mend is said once, and not tried again."""
    done = site.plane.run("systemctl", "start", UNIT, check=False)
    expect(done.returncode != 0, "started without a domain", done.stdout)
    time.sleep(3)
    journal = site.plane.journal("gridplane")
    expect("domain" in journal and "gridplane.conf" in journal, journal)
    expect(site.plane.show(UNIT, "ExecMainStatus") == "78" and site.plane.show(UNIT, "NRestarts") == "0" and not site.of_the_plane(), journal)
    site.plane.run("systemctl", "reset-failed", UNIT)


def test_starts(site):
    site.write_conf()
    began = time.monotonic()
    site.start()
    print(f"ready {time.monotonic() - began:.1f} s after its start")
    expect(site.plane.show(UNIT, "SubState") == "running" and site.plane.show(UNIT, "StatusText") == "ready",
           site.plane.run("systemctl", "status", UNIT, check=False).stdout)
    journal = site.plane.journal("gridplane")
    expect("the control plane is ready" in journal, journal)
    expect(not [line for line in journal.splitlines() if " error " in line or "denied" in line.lower() or "not permitted" in line.lower()],
           journal)
    for name in ("nginx", "splitter", "mosquitto", "registry"):
        log = site.plane.read(f"{STATE}/log/{name}.log") if site.plane.path(f"{STATE}/log/{name}.log").exists() else ""
        bad = [line for line in log.splitlines() if any(word in line for word in ("emerg", "alert", "crit", "denied", "not permitted"))]
        expect(not bad, name, *bad)


def test_children_are_in_the_sandbox(site):
    group = site.group()
    names = site.names()
    expect({"gridplane", "mosquitto", "docker-registry", "nginx"} <= set(names), names)
    expect(names.count("nginx") >= 4, "two masters with their workers", names)
    main, _ = site.plane.main_pid(UNIT)
    user, place = str(site.plane.users["gridplane"]), os.readlink(f"/proc/{main}/ns/mnt")
    expect(place != os.readlink(f"/proc/{site.plane.pid}/ns/mnt"), "it has a file system of its own")
    for pid, status in group.items():
        expect(status["Uid"].split() == [user] * 4, status)
        expect(int(status["CapEff"], 16) | int(status["CapBnd"], 16) == CAP_NET_BIND_SERVICE, status)
        expect(status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status)
        try:
            where = os.readlink(f"/proc/{pid}/ns/mnt")
        except FileNotFoundError:  # a job of the repository's that ended meanwhile
            continue
        expect(where == place, "a child outside of its sandbox", status)
    for _ in range(50):  # jobs of the repository's come and go between two looks
        theirs, group = site.of_the_plane(), site.group()
        if set(theirs) <= set(group):
            break
        time.sleep(0.2)
    expect(set(theirs) <= set(group), "nothing of its outside", theirs)


def test_debians_own_servers_stay(site):
    """A sweep takes what is ours, and not what only has the same name."""
    for unit in DEBIANS_OWN:
        expect(site.plane.show(unit, "ActiveState") == "active" and site.plane.show(unit, "NRestarts") == "0", unit,
               site.plane.journal(unit))


def test_node_registers_and_connects(site):
    site.plane.run("gridplane", "node", "create", "branch-12", "--site", "leeds", "--output", "/tmp/token")
    site.node.write("/root/token", site.plane.read("/tmp/token"), mode=0o600)
    site.node.write("/root/root.pem", site.plane.read(f"{STATE}/ca/root.crt"))
    said = site.node.run("gridnode", "register", "https://repo.grid.example", "--token-file", "/root/token", "--root-ca", "/root/root.pem")
    expect("registered" in said.stdout.lower(), said.stdout)
    done = site.node.run("systemctl", "start", "gridnode.service", check=False)
    expect(done.returncode == 0, done.stdout, site.node.journal("gridnode"))
    wait_until("the node answers", site.node_answers)
    said = site.command("node", "tool", "branch-12", "--", "tcp", "repo.grid.example", "443")
    expect(PLANE in said, said)


def test_https_with_both_certificates(site):
    for host in HOSTS:
        status, text = site.ask(host, "/api/v1/node/config")
        expect(status == 204, "it is told that it has no configuration yet", host, status, text)
        status, text = site.ask(host, "/api/v1/node/config", with_certificate=False)
        expect(status == 401 and "detail" in json.loads(text), host, status, text)
    certificate, key = site.identity()
    done = site.from_node("openssl", "s_client", "-connect", f"{PLANE}:443", "-servername", "repo.grid.example", "-cert", certificate, "-key",
                          key, "-CAfile", site.plane.path(f"{STATE}/ca/root.crt"), "-verify_hostname", "repo.grid.example", "-brief", stdin="\n")
    expect("Verification: OK" in done.stderr, done.stdout, done.stderr)


def test_mqtt_by_alpn(site):
    """8443 gives what says `mqtt` to the broker, and asks it for its certificate; what says nothing gets HTTPS."""
    certificate, key = site.identity()
    node = json.loads(site.node.read("/var/lib/gridnode/identity.json"))["node"]
    words = ["mosquitto_pub", "-V", "5", "-h", PLANE, "-p", 8443, "--cafile", site.plane.path(f"{STATE}/ca/root.crt"), "--insecure",
             "-q", 1, "-i", node, "-t", f"node/{node}/out/none", "-m", "{}"]
    with_certificate = ["--cert", certificate, "--key", key]
    site.node.run("systemctl", "stop", "gridnode.service")
    done = site.from_node(*words, *with_certificate, "--tls-alpn", "mqtt")
    expect(done.returncode == 0, "a node is let in", done.stderr)
    done = site.from_node(*words, "--tls-alpn", "mqtt")
    expect(done.returncode != 0, "who has no certificate is not", done.stdout, done.stderr)
    done = site.from_node(*words, *with_certificate)
    expect(done.returncode != 0, "without the name it is HTTPS", done.stdout, done.stderr)
    site.node.run("systemctl", "start", "gridnode.service")
    wait_until("the node answers again", site.node_answers)


def test_registry_stores(site):
    """An upload, through nginx and the API's judgement, to the registry's folder."""
    token = site.command("token", "add", "pusher", "--role", "operator").strip().splitlines()[-1].split()[-1]
    login = ["-u", f"token:{token}"]
    status, text = site.ask("repo.grid.example", "/v2/default/tool/blobs/uploads/", *login, "-X", "POST", "-D", "-", with_certificate=False)
    where = [line.split(": ", 1)[1].strip() for line in text.splitlines() if line.lower().startswith("location: ")]
    expect(status == 202 and where, status, text)
    path = where[0].removeprefix("https://repo.grid.example")
    digest = "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"  # of the five bytes
    status, text = site.ask("repo.grid.example", f"{path}{'&' if '?' in path else '?'}digest={digest}", *login, "-X", "PUT", "-H",
                            "Content-Type: application/octet-stream", "--data-binary", "hello", with_certificate=False)
    expect(status == 201, status, text)
    status, text = site.ask("repo.grid.example", f"/v2/default/tool/blobs/{digest}", *login, "-L", with_certificate=False)
    expect((status, text) == (200, "hello"), status, text)


def test_a_child_that_dies_comes_back(site):
    """Within the unit, which stays what it is."""
    main, _ = site.plane.main_pid(UNIT)
    for name in ("mosquitto", "docker-registry", "nginx"):
        before = set(site.group())
        count = site.names().count(name)
        victim = next(pid for pid, status in site.group().items() if status["Name"] == name and parent_of(pid) == main)
        os.kill(victim, signal.SIGKILL)
        wait_until(f"{name} is back", lambda n=name, b=before, c=count, v=victim: v not in site.group() and site.names().count(n) == c and
                   set(site.group()) - b)
    wait_until("the node answers again", site.node_answers)
    expect(site.plane.main_pid(UNIT)[0] == main and site.plane.show(UNIT, "NRestarts") == "0", site.plane.journal("gridplane"))


def parent_of(pid):
    """By this host's numbers."""
    return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])


def test_watchdog(site):
    """It is fed while all is well; who does not feed it is started anew, and its children with it."""
    site.plane.write(f"/run/systemd/system/{UNIT}.d/short.conf", "[Service]\nWatchdogSec=3\n")
    site.plane.run("systemctl", "daemon-reload")
    site.plane.run("systemctl", "restart", UNIT)
    time.sleep(5)
    expect(site.plane.show(UNIT, "NRestarts") == "0" and site.is_active(), site.plane.journal("gridplane"))
    before = set(site.group())
    os.kill(site.plane.main_pid(UNIT)[0], signal.SIGSTOP)
    wait_until("the watchdog", lambda: site.plane.show(UNIT, "NRestarts") == "1" and site.is_active(), 40)
    expect(not before & set(site.group()), "none of the old ones is left", before, site.group())
    wait_until("the node answers again", site.node_answers)
    site.plane.path(f"/run/systemd/system/{UNIT}.d/short.conf").unlink()
    site.plane.run("systemctl", "daemon-reload")


def comes_back(site, before):
    """Active anew, each part once, and nothing of what was there before."""
    wait_until("active again", lambda: site.is_active() and not before & set(site.group()), 40)
    wait_until("every part is there once", lambda: [site.names().count(name) for name in ("gridplane", "mosquitto", "docker-registry")] == [1] * 3)
    expect(set(site.of_the_plane()) == set(site.group()), "nothing of its outside", site.of_the_plane())
    wait_until("the node answers again", site.node_answers, 40)
    status, text = site.ask("repo.grid.example", "/api/v1/node/config")
    expect(status == 204, status, text)


def test_restart(site):
    before = set(site.group())
    began = time.monotonic()
    site.plane.run("systemctl", "restart", UNIT)
    print(f"ready {time.monotonic() - began:.1f} s after the restart was asked for")
    comes_back(site, before)


def test_kill_of_all(site):
    before = set(site.group())
    site.plane.run("systemctl", "kill", "-s", "KILL", UNIT)
    comes_back(site, before)


def test_kill_of_the_main_process(site):
    """Its children are told by the kernel, and what stays all the same is swept at the next start."""
    before = set(site.group())
    site.plane.run("systemctl", "kill", "--kill-who=main", "-s", "KILL", UNIT)
    comes_back(site, before)


def test_stop_leaves_nothing(site):
    began = time.monotonic()
    site.plane.run("systemctl", "stop", UNIT)
    print(f"stopped within {time.monotonic() - began:.1f} s")
    expect(site.plane.show(UNIT, "Result") == "success", site.plane.journal("gridplane"))
    expect(not site.of_the_plane() and not site.group(), site.of_the_plane(), site.names())
    expect(not site.plane.path("/run/gridplane").exists(), "its sockets are gone")
    test_debians_own_servers_stay(site)


def test_starts_with_the_machine(site):
    """Both of them, once they are enabled, with all that they had."""
    before = site.plane.read(f"{STATE}/ca/root.crt")
    for machine, unit in ((site.node, "gridnode.service"), (site.plane, UNIT)):
        machine.run("systemctl", "enable", unit)
        machine.run("systemctl", "reboot", check=False)
        machine.await_boot()
    wait_until("active", site.is_active, 30)
    wait_until("the node answers again", site.node_answers, 60)
    expect(site.plane.read(f"{STATE}/ca/root.crt") == before, "the same authority")
    expect(site.command("node", "list", "--json").count("branch-12") == 1, site.command("node", "list", "--json"))


def main():
    tests = [f for name, f in globals().items() if name.startswith("test_")]
    wanted = [f for f in tests if f is test_starts or not sys.argv[2:] or any(part in f.__name__ for part in sys.argv[2:])]
    started = time.monotonic()
    with Site(pathlib.Path(sys.argv[1]).resolve()) as site:
        print(f"booted within {time.monotonic() - started:.1f} s", flush=True)
        results = [run_test(function, site) for function in wanted]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
