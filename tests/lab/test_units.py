#!/usr/bin/python3
"""The units on a real Debian under systemd: the helper's socket and whom it answers, what it may, the sandbox, the daemon.
test_units.py BUILD-FOLDER [NAME-PART...]

In a machine of debian_root.py: a bare Debian with what `meson install` puts there. Needs root. Ends with the line "N passed, N failed"."""

import json
import os
import pathlib
import signal
import socket
import subprocess
import sys
import time

sys.dont_write_bytecode = True

import debian_root  # noqa: E402
from debian_root import expect, wait_until  # noqa: E402
from runner import run_test  # noqa: E402

HELLO = {"op": "hello"}


# ---- the machine ----

class Units(debian_root.Machine):
    """eth0 leads to a gateway, a network namespace of its own; eth1 to nowhere."""
    gateway = None

    def boot(self, build, dress=None):
        super().boot(build, dress)
        self.gateway = subprocess.Popen(["unshare", "-n", "sleep", "infinity"])
        wait_until("the gateway", lambda: os.readlink(f"/proc/{self.gateway.pid}/ns/net") != os.readlink("/proc/self/ns/net"))
        self.add_link("eth0", self.gateway.pid, "far0")
        for line in ("addr add 192.0.2.1/24 dev far0", "link set far0 up"):
            subprocess.run(["nsenter", "-t", str(self.gateway.pid), "-n", "ip", *line.split()], check=True)
        self.ip("addr", "add", "192.0.2.10/24", "dev", "eth0")
        self.ip("route", "add", "default", "via", "192.0.2.1")
        self.ip("link", "add", "eth1", "type", "veth", "peer", "name", "far1")
        self.ip("link", "set", "far1", "up")

    def close(self):
        if self.gateway:
            self.gateway.kill()
            self.gateway.wait()
        super().close()


# ---- asking the helper ----

def ask(machine, messages, user="gridnode", groups=None):
    """Sends each message as this user, and gives the answers; None: the connection was closed; or the name of an error."""
    out, end = os.pipe()
    child = os.fork()
    if child == 0:
        answers = []
        try:
            os.close(out)
            os.chdir(machine.path("/run/gridnode-helper"))
            uid = machine.users[user]
            os.setgroups(groups if groups is not None else [])
            os.setresgid(uid, uid, uid)
            os.setresuid(uid, uid, uid)
            s = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            s.settimeout(10)
            s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 19)
            s.connect("socket")
            for message in messages:
                s.send(message if isinstance(message, bytes) else json.dumps(message).encode())
                received = s.recv(1 << 20)
                answers.append(json.loads(received) if received else None)
        except OSError as e:
            answers.append(type(e).__name__)
        os.write(end, json.dumps(answers).encode())
        os._exit(0)
    os.close(end)
    with os.fdopen(out) as f:
        text = f.read()
    os.waitpid(child, 0)
    return json.loads(text)


def network(*routes, address="10.20.0.2/24"):
    ways = [{"interface": "eth1", "next_hop": "10.20.0.1", "metric": 1024, "to": list(routes)}] if routes else []
    return {"op": "network.apply", "up": ["eth1"], "addresses": [{"interface": "eth1", "address": address}], "routes": ways}


NOTHING = {"op": "network.apply", "up": [], "addresses": [], "routes": []}


def start_socket(machine):
    machine.run("systemctl", "start", "gridnode-helper.socket")


# ---- the units themselves ----

def test_verify(machine):
    units = f"{machine.prefix}/lib/systemd/system/"
    for name in ("gridnode.service", "gridnode-helper.socket", "gridnode-helper.service"):
        done = machine.run("systemd-analyze", "verify", "--man=no", units + name, check=False)
        expect(done.returncode == 0 and "gridnode" not in done.stdout, done.stdout)


def test_exposure(machine):
    for name, most in (("gridnode.service", 2.0), ("gridnode-helper.service", 2.0), ("gridplane.service", 2.5)):
        for words in ((name,), ("--offline=true", f"{machine.prefix}/lib/systemd/system/{name}")):
            done = machine.run("systemd-analyze", "security", "--no-pager", *words)
            exposure = float(done.stdout.split("Overall exposure level for ")[1].split(": ")[1].split()[0])
            expect(exposure < most, words, done.stdout)


def test_users_and_folders(machine):
    for name in ("gridnode", "gridplane"):
        expect(name in machine.users, machine.read("/etc/passwd"))
        expect(machine.path(f"/var/lib/{name}").stat().st_uid == machine.users[name], name)


# ---- the helper ----

def test_helper_answers_its_users(machine):
    start_socket(machine)
    expect(machine.show("gridnode-helper.service", "ActiveState") == "inactive", "nobody has asked yet")
    for user in ("gridnode", "root"):
        answer, = ask(machine, [HELLO], user)
        expect(answer["ok"] and answer["version"], answer)
    folder = machine.path("/run/gridnode-helper").stat()
    expect(folder.st_uid == 0 and folder.st_mode & 0o777 == 0o755, "the folder is root's", folder)


def test_helper_refuses_others(machine):
    start_socket(machine)
    expect(ask(machine, [HELLO], "nobody") == ["PermissionError"], "by the socket's mode")
    answers = ask(machine, [HELLO], "nobody", groups=[machine.users["gridnode"]])
    expect(answers in ([None], ["BrokenPipeError"], ["ConnectionResetError"]), "by itself", answers)
    wait_until("the log", lambda: f"refused a connection of user {machine.users['nobody']}" in machine.journal("gridnode-helper"))
    for _ in range(5):
        ask(machine, [HELLO], "nobody", groups=[machine.users["gridnode"]])
    expect(machine.journal("gridnode-helper").count("refused a connection") == 1, "logged once", machine.journal("gridnode-helper"))
    expect(ask(machine, [HELLO])[0]["ok"], "and goes on")


def test_helper_refuses_garbage(machine):
    start_socket(machine)
    for garbage in (b"\x00\xff", b"{}", b'{"op":"reboot"}', b'{"op":"hello","path":"/etc/shadow"}', b"[" * 5000, b"{" + b" " * 300000):
        answers = ask(machine, [garbage, HELLO])
        expect(not answers[0]["ok"] and answers[0]["code"].startswith("json."), answers)
        expect(answers[1] in (None, "BrokenPipeError", "ConnectionResetError"), "its connection is closed", answers)
        expect(ask(machine, [HELLO])[0]["ok"], "others are served")
    expect(machine.journal("gridnode-helper").count("refused a message") >= 6, machine.journal("gridnode-helper"))
    expect("is no operation of this helper" in machine.journal("gridnode-helper"), machine.journal("gridnode-helper"))


def test_helper_applies_networks(machine):
    start_socket(machine)
    answer, = ask(machine, [network("10.30.0.0/16", "10.31.0.0/16")])
    expect(answer["ok"], answer)
    routes = machine.run("ip", "route").stdout
    expect("10.30.0.0/16 via 10.20.0.1 dev eth1 proto 173 metric 1024" in routes, routes)
    expect("default via 192.0.2.1 dev eth0" in routes, routes)
    expect("10.20.0.2/24" in machine.run("ip", "addr", "show", "eth1").stdout, "address")
    before = machine.run("ip", "route").stdout
    for wrong, word in ((network("10.30.0.0/16", "10.32.0.0/16", address="10.99.0.2/24"), "next hop"),
                        ({**NOTHING, "up": ["eth9"]}, "eth9"), ({**NOTHING, "up": ["lo"]}, "loopback"), ({**NOTHING, "up": ["eth0"]}, "WAN")):
        answer, = ask(machine, [wrong])
        expect(not answer["ok"] and word in answer["error"], answer)
        expect(machine.run("ip", "route").stdout == before, machine.run("ip", "route").stdout)
    answer, = ask(machine, [NOTHING])
    expect(answer["ok"], answer)
    expect("proto 173" not in machine.run("ip", "route").stdout and "10.20." not in machine.run("ip", "addr").stdout, "all gone")


def test_helper_killed(machine):
    start_socket(machine)
    expect(ask(machine, [network("10.30.0.0/16")])[0]["ok"], "applied")
    pid, _ = machine.main_pid("gridnode-helper.service")
    os.kill(pid, signal.SIGKILL)
    wait_until("its end", lambda: machine.show("gridnode-helper.service", "ActiveState") != "active")
    expect("10.30.0.0/16" in machine.run("ip", "route").stdout, "the network stays")
    expect(ask(machine, [network("10.31.0.0/16")])[0]["ok"], "and the next one knows what was made")
    routes = machine.run("ip", "route").stdout
    expect("10.31.0.0/16" in routes and "10.30.0.0/16" not in routes, routes)
    expect(ask(machine, [NOTHING])[0]["ok"], "gone")


def test_helper_may_little(machine):
    start_socket(machine)
    many = [f"10.{64 + i // 256}.{i % 256}.0/24" for i in range(4096)]
    answers = ask(machine, [network(*many), NOTHING])
    expect(all(answer["ok"] for answer in answers), answers, machine.journal("gridnode-helper"))
    pid, status = machine.main_pid("gridnode-helper.service")
    expect(int(status["CapEff"], 16) == int(status["CapBnd"], 16) == 1 << 12, "CAP_NET_ADMIN alone", status)
    expect(status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status)
    maps = pathlib.Path(f"/proc/{pid}/maps").read_text()
    libraries = {line.split("/")[-1].split(".so")[0] for line in maps.splitlines() if ".so" in line}
    allowed = {"libc", "libm", "libjansson", "libnl-3", "ld-linux-x86-64", "libnss_systemd", "libnss_files", "libnss_compat"}
    if "libasan" not in libraries:
        expect(libraries <= allowed, "nothing else is linked", libraries)
        resident = int(status["VmRSS"].split()[0])
        print(f"the helper after 4096 routes: {resident} kB resident")
        expect(resident < 4096, status)


# ---- the sandbox of the daemon ----

def test_probes_work_in_the_sandbox(machine):
    """The daemon's unit with a diagnosis in the daemon's place: netlink, packet sockets, DNS, files."""
    unit = machine.read(f"{machine.prefix}/lib/systemd/system/gridnode.service")
    others = ("Type=", "Restart", "WatchdogSec", "ExecStart=", "NotifyAccess", "ConditionPathExists=")
    lines = [line for line in unit.splitlines() if not line.startswith(others)]
    at = lines.index("[Service]") + 1
    lines[at:at] = ["Type=oneshot", f"ExecStart={machine.prefix}/bin/gridnode diag --json", "SuccessExitStatus=0 1 2 3",
                    "StandardOutput=file:/run/gridnode-try"]
    machine.write("/run/systemd/system/gridnode-try.service", "\n".join(lines) + "\n")
    machine.write("/etc/resolv.conf", "nameserver 192.0.2.1\n")
    machine.run("systemctl", "daemon-reload")
    machine.run("systemctl", "start", "gridnode-try.service")
    report = json.loads(machine.read("/run/gridnode-try"))
    kinds = {m["kind"]: m for m in report["measurements"]}
    for kind in ("link", "address", "route", "dns", "arp"):
        expect(kind in kinds, "measured", kind, sorted(kinds))
        expect(kinds[kind]["status"] != "not-tested", kinds[kind])
    arp = [m for m in report["measurements"] if m["kind"] == "arp"]
    expect(any(m["outcome"] == "ok" for m in arp), "a packet went out and its answer came in", arp)


def test_daemon(machine):
    """Ready, with its rights and no others; a hang is noticed; it ends when it is told."""
    if not machine.path(f"{machine.prefix}/libexec/gridnode/gridnode-daemon").exists():
        print("gridnode-daemon is not in this build")
        return
    start_socket(machine)
    register_by_hand(machine)
    machine.write("/run/systemd/system/gridnode.service.d/short.conf", "[Service]\nWatchdogSec=3\n")
    machine.run("systemctl", "daemon-reload")
    done = machine.run("systemctl", "start", "gridnode.service", check=False)
    expect(done.returncode == 0, done.stdout, machine.journal("gridnode"))
    pid, status = machine.main_pid("gridnode.service")
    expect(status["Uid"].split() == [str(machine.users["gridnode"])] * 4, status["Uid"])
    expect(int(status["CapEff"], 16) == 1 << 13 | 1 << 10, "CAP_NET_RAW and CAP_NET_BIND_SERVICE", status)
    expect(status["NoNewPrivs"] == "1" and status["Seccomp"] == "2", status)
    time.sleep(4)
    expect(machine.show("gridnode.service", "NRestarts") == "0", machine.journal("gridnode"))
    os.kill(pid, signal.SIGSTOP)
    wait_until("the watchdog", lambda: machine.show("gridnode.service", "NRestarts") == "1" and
               machine.show("gridnode.service", "ActiveState") == "active")
    machine.run("systemctl", "stop", "gridnode.service")
    expect(machine.show("gridnode.service", "Result") == "success", machine.journal("gridnode"))


def register_by_hand(machine):
    """What `gridnode register` leaves, for a control plane that nobody can reach."""
    state = "/var/lib/gridnode"
    machine.run("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=n-0123456789abcdef",
                "-keyout", f"{state}/node.key", "-out", f"{state}/node.crt", "-days", "30")
    files = {"grid-root.pem": machine.read(f"{state}/node.crt"), "node.crt": machine.read(f"{state}/node.crt"),
             "node.key": machine.read(f"{state}/node.key"),
             "identity.json": json.dumps({"node": "n-0123456789abcdef", "name": "units", "organisation": "default", "profile": "grid"}),
             "grid.profile": "[profile]\nname = grid\nranges = 198.51.100.16/28\nroot-ca = grid-root.pem\n"
                             "[service repo]\nhost = repo.grid.example\nport = 443\ntls = server\ncarries = updates;images;logs\n"
                             "[service control]\nhost = control.grid.example\nport = 8443\ntls = mutual\ncarries = control;config\n"}
    for name, text in files.items():
        machine.write(f"{state}/{name}", text, "gridnode", 0o600)


def main():
    tests = [f for name, f in globals().items() if name.startswith("test_")]
    wanted = [f for f in tests if not sys.argv[2:] or any(part in f.__name__ for part in sys.argv[2:])]
    started = time.monotonic()
    machine = Units("units", debian_root.RUNTIME)
    try:
        machine.boot(pathlib.Path(sys.argv[1]).resolve())
        print(f"booted within {time.monotonic() - started:.1f} s", flush=True)
        results = [run_test(function, machine) for function in wanted]
    finally:
        machine.close()
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


sys.exit(main())
