"""Registration, renewal, and the life of the daemon as a process."""

import base64
import json
import re
import shutil
import signal
import stat
import subprocess

from .world import DAY_S, URL, World, expect, is_alive, wait_for


def registration(s):
    with World(s, "reg") as w:
        node, other = w.node, w.another("other")
        token, second = w.folder / "token", w.folder / "token-2"
        fingerprint = subprocess.run(["openssl", "x509", "-in", w.root_ca, "-noout", "-fingerprint", "-sha256"], check=True,
                                     capture_output=True, text=True).stdout.strip().partition("=")[2]
        refusals(s, w, node, token, second, fingerprint)
        with s.step("the right fingerprint registers; the root is fetched and kept", needed=True):
            node.register(token, "--root-fingerprint", fingerprint).says("branch-12 is registered")
            expect((node.state / "grid-root.pem").read_bytes() == w.root_ca.read_bytes(), "the root that was kept")
        with s.step("the key is 0600, and neither database nor logs of the plane have it"):
            key = node.state / "node.key"
            expect(stat.S_IMODE(key.stat().st_mode) == 0o600, oct(key.stat().st_mode))
            no_copy_of(key, w.plane_root)
        with s.step("a node that is registered is not registered again by accident"):
            node.register(second, accept=(1,)).says("registered already", "--again")
        with s.step("a token that was used is refused to another machine"):
            other.register(token, accept=(1,)).says("this token was used already")
        with s.step("an expired token is refused"):
            w.sql("UPDATE enrolments SET expires = expires - 2 * 86400000 WHERE used IS NULL")
            other.register(second, accept=(1,)).says("this token has expired (24 hours)")
        with s.step("a newer token counts, and the one before it does not"):
            third, fourth = w.folder / "token-3", w.folder / "token-4"
            w.plane("node", "token", "other", "--output", third)
            w.plane("node", "token", "other", "--output", fourth)
            other.register(third, accept=(1,)).says("this token is not known")
            other.register(fourth).says("other is registered")
        with s.step("tokens are stored hashed"):
            text = token.read_text().strip()
            expect(re.fullmatch(r"gnt_\S{20,}", text), text)
            expect(text.encode() not in w.database.read_bytes(), "the token is in the database")
        one_daemon(s, w, node)


def refusals(s, w, node, token, second, fingerprint):
    right = ("--root-ca", w.root_ca)
    with s.step("node create prints a token once", needed=True):
        out = w.plane("node", "create", "branch-12", "--site", "leeds").out
        expect(out.count("\n") == 1 and out.startswith("gnt_"), out)
        token.write_text(out)
        w.plane("node", "create", "other", "--output", second)
        expect(stat.S_IMODE(second.stat().st_mode) == 0o600, "the token's file is its owner's alone")
        w.plane("node", "create", "branch-12", accept=(1,)).says("branch-12")
    with s.step("a wrong root is refused, and so is a wrong fingerprint"):
        wrong = w.folder / "wrong.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout",
                        w.folder / "wrong.key", "-out", wrong, "-subj", "/CN=wrong", "-days", "2"], check=True, capture_output=True)
        node.register(token, "--root-ca", wrong, accept=(1,)).says("does not lead to the pinned root")
        changed = ("0" if fingerprint[0] != "0" else "1") + fingerprint[1:]
        node.register(token, "--root-fingerprint", changed, accept=(1,)).says("has not the fingerprint that was given")
        node.register(token, "--root-fingerprint", "abc", accept=(64,)).says("64 hexadecimal digits")
        node.register(token, "--root-ca", token, accept=(1, 78)).says(str(token))
    with s.step("wrong usage is told as such"):
        node.run("register", URL, "--token-file", token, accept=(64,)).says("--root-ca or --root-fingerprint")
        node.run("register", "http://repo.grid.example", "--token-file", token, *right, accept=(64,)).says("https://HOST")
        node.run("register", URL, *right, accept=(64,)).says("--token-file")
        node.register(w.folder / "none", *right, accept=(1,)).says("none: No such file")
        node.register("-", *right, stdin="gnt_notknown\n", accept=(1,)).says("this token is not known")
        node.register("-", *right, stdin="", accept=(1,)).says("holds no token")
        node.run("run", accept=(78,)).says("not registered", "gridnode register")
        node.run("renew", accept=(1, 78)).says("not registered")
    with s.step("a host that is not reached is named with what happened at each address"):
        w.lab("fault", "drop-443")
        node.register(token, *right, "--timeout", "3", accept=(69,)).says("198.51.100.20: tcp", "203.0.113.200: tcp")
        w.lab("fault", "reset-443")
        node.register(token, *right, accept=(69,)).says("refused")
        w.lab("reset")
    with s.step("nothing of it left an identity"):
        expect(not (node.state / "node.crt").exists(), "there is a certificate")


def no_copy_of(key, folder):
    pem = key.read_text()
    der = base64.b64decode("".join(pem.splitlines()[1:-1]))
    secret = subprocess.run(["openssl", "pkey", "-in", key, "-noout", "-text"], check=True, capture_output=True, text=True).stdout
    number = bytes.fromhex(re.sub(r"[^0-9a-f]", "", secret.partition("priv:")[2].partition("pub:")[0]))[-32:]
    needles = [number, number.hex().encode(), number.hex().upper().encode(), der, pem.splitlines()[1].encode()]
    for path in folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            expect(not any(needle in data for needle in needles), f"{path} has the node's private key")


# ---- the daemon as a process ----

def one_daemon(s, w, node):
    socket = node.root / "run/gridnode/control.sock"
    with s.step("the daemon comes up, and its node is connected", needed=True):
        node.come_up()
        listed = w.plane("node", "list", "--json").json["items"]
        expect([n["connected"] for n in listed if n["name"] == "branch-12"] == [True], listed)
    with s.step("the control socket is 0660"):
        expect(stat.S_IMODE(socket.stat().st_mode) == 0o660, oct(socket.stat().st_mode))
    with s.step("somebody else is refused at the control socket, and told so"):
        w.run("node", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "cat", w.gridnode, accept=None)
        refused = w.run("node", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", w.gridnode, "status", "--root",
                        node.root, accept=(77,))
        refused.says("gridnode")
    with s.step("a second daemon on the same state is refused, and the first goes on"):
        node.run("run", accept=(69,), timeout=20).says("already")
        expect(node.is_connected(), "the first is still connected")
    with s.step("status says what the console shows"):
        node.run("status").says("WAN IP Address:          192.0.2.10", "DNS Status:              Working", "Cloud Controller:",
                                "Software Repository:     Reachable", "Configuration Endpoint:  Reachable", "updates:", "images:",
                                "logs:", "Last diagnosis:")
    with s.step("SIGTERM ends it with 0, its helper with it, and the plane knows at once"):
        pids = pids_in(w, "node")
        expect(len(pids) >= 2, "daemon and helper", pids)
        expect(node.stop() == 0, "its exit status", node.last_words())
        wait_for("all of its processes end", lambda: not any(map(is_alive, pids)), 5)
        wait_for("the plane says that it is gone", lambda: not shown(w)["connected"], 5)
        expect(node.events()[-1]["message"] == "Node disconnected: gridnode was stopped", node.events()[-1])
        expect(shown(w)["reason"] == "gridnode was stopped", shown(w)["reason"])
        node.run("status", accept=(69,)).says("gridnode run")
    with s.step("SIGKILL leaves nothing that hinders the next start"):
        node.come_up()
        pids = pids_in(w, "node")
        node.stop(signal.SIGKILL)
        wait_for("its helper ends with it", lambda: not any(map(is_alive, pids)), 5)
        wait_for("the plane knows that this was no goodbye", lambda: shown(w)["reason"] == "the connection was lost", 5)
        expect(socket.exists(), "the socket was left behind")
        node.come_up()
    with s.step("it can be renewed by hand at any time, and the channel stays"):
        node.run("renew").says("The certificate of branch-12 is renewed")
        expect(shown(w)["connected"], "connected")


def shown(w, name="branch-12"):
    return w.plane("node", "show", name, "--json").json


def pids_in(w, role):
    return [int(pid) for pid in subprocess.run(["ip", "netns", "pids", f"gl-{w.name}-{role}"], check=True, capture_output=True,
                                               text=True).stdout.split()]


# ---- renewal ----

def serial(node):
    return subprocess.run(["openssl", "x509", "-in", node.state / "node.crt", "-noout", "-serial"], check=True,
                          capture_output=True, text=True).stdout.strip()


def registered_days_ago(w, name, days):
    """The plane and the node believe in the same past."""
    w.kill_plane()
    w.start_plane(-days * DAY_S)
    node, token = w.another(name), w.folder / f"token-{name}"
    w.plane("node", "create", name, "--output", token)
    node.register(token, shift=-days * DAY_S)
    node.id = json.loads((node.state / "identity.json").read_text())["node"]
    return node


def renewal(s):
    with World(s, "ren") as w:
        w.kill_plane()
        shutil.rmtree(w.plane_root / "var")  # its authority shall be as old as what it signed first
        w.start_plane(-272 * DAY_S)
        shutil.copy(w.plane_root / "var/lib/gridplane/ca/root.crt", w.root_ca)
        lost, late, due, fresh = [registered_days_ago(w, *what) for what in
                                  [("lost", 90 + 91), ("late", 90 + 80), ("due", 61), ("fresh", 58)]]
        w.kill_plane()
        w.start_plane()
        with s.step("before two thirds of its life a certificate stays"):
            former, clock = serial(fresh), w.folder / "clock"
            clock.write_bytes(b"%32d" % 0)
            fresh.start(clock)
            wait_for("connected", lambda: shown(w, "fresh")["connected"], 30)
            expect(serial(fresh) == former, "it was renewed too early")
        with s.step("a daemon that runs on renews it when the day has come, and stays connected"):
            with open(clock, "r+b", buffering=0) as file:
                file.write(b"%32d" % (3 * DAY_S))
            wait_for("another certificate", lambda: serial(fresh) != former, 45)
            wait_for("connected with it", lambda: fresh.is_connected() and shown(w, "fresh")["connected"], 30)
        with s.step("at two thirds of its life it is renewed, with a new key, and the channel goes on with it"):
            is_renewed_by_itself(w, due)
            expect(w.sql(f"SELECT count(*) FROM certificates WHERE node = '{due.id}'").strip() == "2", "two certificates")
        with s.step("80 days after its end it is good for nothing but a renewal"):
            is_good_for_nothing(w, late)
        with s.step("a daemon that was off for so long renews by itself and is connected"):
            is_renewed_by_itself(w, late)
        with s.step("91 days after its end it is not renewed any more, and that is said"):
            lost.run("renew", accept=(1,)).says("90 days")
        with s.step("a new token makes a node of it again, with the same id"):
            token = w.folder / "again"
            w.plane("node", "token", "lost", "--output", token)
            lost.register(token, "--root-ca", w.root_ca, "--again").says(lost.id)
            lost.come_up()


def is_renewed_by_itself(w, node):
    former, key = serial(node), (node.state / "node.key").read_bytes()
    node.start()
    wait_for("another certificate", lambda: serial(node) != former, 30)
    expect((node.state / "node.key").read_bytes() != key, "the key is the old one")
    wait_for("connected with it", lambda: node.is_connected() and shown(w, node.name)["connected"], 30)


def is_good_for_nothing(w, node):
    node.run("config", accept=(1, 69, 77)).says("expired")
    mqtt = w.run("node", "mosquitto_sub", "-h", "198.51.100.21", "-p", "8443", "--cafile", w.root_ca, "--cert",
                 node.state / "node.crt", "--key", node.state / "node.key", "--insecure", "--tls-alpn", "mqtt", "-V", "5",
                 "-t", f"node/{node.id}/ack", "-W", "4", accept=None)
    expect(mqtt.status not in (0, 27), "the broker took an expired certificate", mqtt)


SCENARIOS = [registration, renewal]
