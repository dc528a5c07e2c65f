"""The control plane: people and programs, organisations, its servers, its checks, its life."""

import csv
import io
import json
import os
import signal
import socket
import stat
import subprocess
import time

from .world import DAY_S, World, expect, is_alive, wait_for

PASSWORD = "correct horse battery staple"


def people(s):
    with World(s, "people") as w:
        secret = w.folder / "password"
        secret.write_text(PASSWORD + "\n")
        with s.step("people are added with a role; a short password, a role or a name that cannot be are refused", needed=True):
            for name, role in (("alice", "admin"), ("oscar", "operator"), ("vera", "viewer")):
                w.plane("user", "add", name, "--role", role, "--password-file", secret)
            w.plane("user", "add", "alice", "--password-file", secret, accept=(1,)).says("alice")
            w.plane("user", "add", "short", "--password-file", "-", stdin="secret\n", accept=(64,)).says("12")
            w.plane("user", "add", "king", "--role", "king", "--password-file", secret, accept=(64,)).says("viewer", "operator", "admin")
            w.plane("user", "add", "a b", "--password-file", secret, accept=(64,)).says("name of a user")
            w.plane("user", "add", "nobody", accept=(64,)).says("--password-file")
            w.plane("user", "list").says("alice", "oscar", "vera")
            expect(PASSWORD.encode() not in w.database.read_bytes() and b"$argon2id$" in w.database.read_bytes()
                   or "$argon2id$" in w.sql("SELECT password FROM users"), "how passwords are stored")
        sessions = {name: sign_in(w, name) for name in ("alice", "oscar", "vera")}
        roles(s, w, sessions)
        with s.step("a change needs the session's own CSRF token"):
            cookie = sessions["oscar"][0]
            w.http("POST", "/api/v1/nodes", {"name": "csrf"}, [cookie]).is_status(403)
            w.http("POST", "/api/v1/nodes", {"name": "csrf"}, [cookie, "X-CSRF-Token: wrong"]).is_status(403)
            w.http("POST", "/api/v1/nodes", {"name": "csrf"}, [cookie, sessions["vera"][1]]).is_status(403)
            w.http("GET", "/api/v1/nodes", headers=[cookie]).is_status(200)
        with s.step("a session ends when one signs out, and with its user"):
            w.http("DELETE", "/api/v1/session", headers=sessions["vera"]).is_status(204)
            w.http("GET", "/api/v1/nodes", headers=sessions["vera"]).is_status(401)
            w.plane("user", "remove", "oscar")
            w.http("GET", "/api/v1/nodes", headers=sessions["oscar"]).is_status(401)
        with s.step("API tokens: by role, refused when they are removed or wrong"):
            token = w.plane("token", "add", "program", "--role", "viewer").out.strip()
            bearer = [f"Authorization: Bearer {token}"]
            w.http("GET", "/api/v1/nodes", headers=bearer).is_status(200)
            w.http("POST", "/api/v1/nodes", {"name": "x"}, bearer).is_status(403)
            expect("gridplane_" in w.http("GET", "/metrics", headers=bearer).is_status(200).body, "metrics")
            w.http("GET", "/metrics").is_status(401)
            w.plane("token", "remove", "program")
            w.http("GET", "/api/v1/nodes", headers=bearer).is_status(401)
            w.http("GET", "/api/v1/nodes", headers=["Authorization: Bearer gpt_wrong"]).is_status(401)
            w.http("GET", "/api/v1/nodes").is_status(401)
        with s.step("five wrong passwords slow the sixth, and the right one too"):
            for _ in range(5):
                w.http("POST", "/api/v1/session", {"name": "alice", "password": "wrong wrong wrong"}).is_status(401)
            slow = w.http("POST", "/api/v1/session", {"name": "alice", "password": PASSWORD}).is_status(429)
            wait = int(slow.headers["retry-after"])
            expect(1 <= wait <= 60, slow.headers)
            w.http("POST", "/api/v1/session", {"name": "vera", "password": PASSWORD}).is_status(201)
            time.sleep(wait + 0.1)
            w.http("POST", "/api/v1/session", {"name": "alice", "password": PASSWORD}).is_status(201)
        with s.step("the audit log has who changed what, and no secret"):
            text = w.plane("audit", "list", "--json").out
            found = {(e["actor"], e["action"]) for e in json.loads(text)["items"]}
            for actor, action in (("local:root", "user.create"), ("local:root", "token.create"), ("alice", "user.create"),
                                  ("oscar", "node.create")):
                expect((actor, action) in found, (actor, action), sorted(found))
            expect(PASSWORD not in text and "gpt_" not in text and "gnt_" not in text, "a secret")
        with s.step("what nobody expects is answered by problem details, as described"):
            for method, path, body, wanted in (("GET", "/api/v1/nowhere", None, (404,)), ("PUT", "/api/v1/nodes", {}, (405,)),
                                               ("POST", "/api/v1/session", "{", (400,)), ("POST", "/api/v1/session", "[]", (400,)),
                                               ("GET", "/api/v1/nodes?limit=x", None, (400, 401))):
                answer = w.http(method, path, body, sessions["alice"] if "nodes" in path else ()).is_status(*wanted)
                expect(answer.headers["content-type"].startswith("application/problem+json"), answer.headers)
        with s.step("every answer is one that the OpenAPI file describes"):
            expect(w.check_answers() > 40, "enough answers")


def sign_in(w, name):
    answer = w.http("POST", "/api/v1/session", {"name": name, "password": PASSWORD}).is_status(201)
    cookie = answer.headers["set-cookie"]
    expect("Secure" in cookie and "HttpOnly" in cookie and "SameSite=Strict" in cookie, cookie)
    return [f"Cookie: {cookie.partition(';')[0]}", f"X-CSRF-Token: {answer.json['csrf']}"]


def roles(s, w, sessions):
    with s.step("a viewer reads, an operator changes nodes, an administrator people"):
        for name, may_nodes, may_users in (("vera", 403, 403), ("oscar", 201, 403), ("alice", 201, 201)):
            who = sessions[name]
            w.http("GET", "/api/v1/nodes", headers=who).is_status(200)
            w.http("GET", "/api/v1/events", headers=who).is_status(200)
            w.http("POST", "/api/v1/nodes", {"name": f"by-{name}"}, who).is_status(may_nodes)
            w.http("POST", "/api/v1/users", {"name": f"by-{name}", "password": PASSWORD, "role": "viewer"}, who).is_status(may_users)
            w.http("GET", "/api/v1/audit", headers=who).is_status(200 if name == "alice" else 403)
            w.http("POST", "/api/v1/organisations", {"name": f"by-{name}"}, who).is_status(403)
        w.http("DELETE", "/api/v1/nodes/by-oscar", headers=sessions["vera"]).is_status(403)
        w.http("DELETE", "/api/v1/nodes/by-oscar", headers=sessions["oscar"]).is_status(204)
        w.http("PUT", "/api/v1/nodes/by-alice/config", {"schema": 1}, sessions["vera"]).is_status(403)


# ---- organisations ----

def organisations(s):
    with World(s, "org") as w:
        ours, theirs = w.node, w.another("theirs")
        ours.enrol()
        w.plane("org", "add", "acme")
        token = w.folder / "token-theirs"
        w.plane("node", "create", "branch-12", "--site", "oslo", "--org", "acme", "--output", token)
        theirs.register(token)
        theirs.id = json.loads((theirs.state / "identity.json").read_text())["node"]
        bearers = {org: [f"Authorization: Bearer {w.plane('token', 'add', 'p', '--role', 'admin', '--org', org).out.strip()}"]
                   for org in ("default", "acme")}
        ours.come_up()
        theirs.start()
        with s.step("nodes of two organisations may have one name; each sees its own", needed=True):
            wait_for("both are connected", lambda: all(
                [n["connected"] for n in w.http("GET", "/api/v1/nodes", headers=bearers[org]).json["items"]] == [True]
                for org in bearers), 20)
            for org, node in (("default", ours), ("acme", theirs)):
                expect(w.http("GET", "/api/v1/nodes/branch-12", headers=bearers[org]).json["id"] == node.id, org)
        foreign(s, w, ours, bearers["acme"])
        broker(s, w, ours, theirs)
        with s.step("events, lists and CSV of one have nothing of the other"):
            for org, node in (("default", ours), ("acme", theirs)):
                items = w.http("GET", "/api/v1/events", headers=bearers[org]).json["items"]
                expect(items and {e["node"] for e in items} == {node.id}, items)
                rows = list(csv.DictReader(io.StringIO(w.http("GET", "/api/v1/events", headers=[*bearers[org], "Accept: text/csv"]).body)))
                expect({row["node"] for row in rows} == {node.id} and len(rows) == len(items), rows)
                expect(w.plane("event", "list", "--csv", "--org", org).out.count(node.id) >= len(items), org)
            expect("theirs" not in w.http("GET", "/api/v1/audit", headers=bearers["default"]).body, "the audit log")
            expect(w.http("GET", "/api/v1/tokens", headers=bearers["acme"]).body.count('"id"') == 1, "its tokens")
        with s.step("a program that names another organisation stays in its own"):
            answer = w.http("GET", "/api/v1/nodes", headers=[*bearers["acme"], "X-Organisation: default"])
            expect(answer.status in (400, 403) or [n["id"] for n in answer.json["items"]] == [theirs.id], answer)
        with s.step("a client cannot say whose certificate it has"):
            for path in ("/api/v1/node/config",):
                w.http("GET", path, headers=["X-Client-Verify: SUCCESS", "X-Client-Certificate: " + encoded(ours)],
                       port=8443).is_status(401, 403)
        with s.step("every answer is one that the OpenAPI file describes"):
            expect(w.check_answers() > 20, "enough answers")


def encoded(node):
    return (node.state / "node.crt").read_text().replace("\n", "%0A").replace("+", "%2B").replace(" ", "%20")


def foreign(s, w, ours, who):
    with s.step("of another organisation's node nothing can be read, changed or asked for"):
        path = f"/api/v1/nodes/{ours.id}"
        for method, more, body in (("GET", "", None), ("DELETE", "", None), ("POST", "/token", None), ("GET", "/config", None),
                                   ("PUT", "/config", {"schema": 1}), ("POST", "/requests", {"tool": "diag"})):
            w.http(method, path + more, body, who).is_status(404)
        w.http("GET", f"/api/v1/events?node={ours.id}", headers=who).is_status(404)
        ours.run("diag")  # which makes a report
        report = wait_for("a report", lambda: w.plane("report", "list", "--json").json["items"])[0]["id"]
        w.http("GET", f"/api/v1/reports/{report}", headers=who).is_status(404)
        expect(w.http("GET", "/api/v1/reports", headers=who).json["items"] == [], "its reports")
        expect(ours.is_connected(), "it is as it was")


def broker(s, w, ours, theirs):
    def client(program, *words):
        return w.run("node", program, "-h", "control.grid.example", "-p", "8443", "--cafile", w.root_ca, "--cert",
                     theirs.state / "node.crt", "--key", theirs.state / "node.key", "--tls-alpn", "mqtt", "-V", "5", "-q", "1",
                     *words, accept=None, timeout=20)

    with s.step("with its own certificate a node reaches no other's topics"):
        theirs.stop()
        forged = json.dumps({"schema": 1, "epoch": "e-forged", "seq": 1, "generated": "2026-11-21T03:00:00.000Z",
                             "name": "Repo Connectivity", "severity": "ERROR", "message": "forged"})
        client("mosquitto_pub", "-t", f"node/{ours.id}/event", "-m", forged)
        client("mosquitto_pub", "-t", f"node/{theirs.id}/ack", "-m", forged)
        own = client("mosquitto_sub", "-t", f"node/{theirs.id}/ack", "-W", "2")
        expect(own.status == 27, "its own topic may be read", own)
        other = client("mosquitto_sub", "-t", f"node/{ours.id}/#", "-t", "#", "-t", "$SYS/#", "-W", "3")
        expect(other.out == "", "it was told something", other)
        client("mosquitto_pub", "-t", f"node/{theirs.id}/event", "-m", forged)
        events = wait_for("its own", lambda: [e for e in w.plane("event", "list", "--json", "--org", "acme").json["items"]
                                              if e["message"] == "forged"])
        expect(events[0]["node"] == theirs.id, events)
        expect("forged" not in w.plane("event", "list", "--json").out, "an event in the other's name")
    with s.step("garbage from a node is refused, logged, and harms nobody"):
        junk = w.folder / "junk"
        for data in (b"\xff\xfe{", b"{}", b"[" * 5000, json.dumps({"schema": 1, "node": ours.id}).encode(), b"x" * (1 << 20)):
            junk.write_bytes(data)
            client("mosquitto_pub", "-t", f"node/{theirs.id}/event", "-f", junk)
        time.sleep(0.5)
        expect(ours.is_connected() and "refused" in w.plane_log.read_text(), w.plane_log.read_text()[-2000:])
        theirs.start()
        wait_for("it is connected again", theirs.is_connected, 20)


# ---- servers, checks, life ----

def servers(s):
    with World(s, "serve") as w:
        node = w.node
        node.enrol()
        node.come_up()
        for name, comm in (("nginx", "nginx"), ("the broker", "mosquitto"), ("the registry", "docker-registry")):
            with s.step(f"{name} is killed: it is started again, and all is as before"):
                before = {pid for pid, found in w.plane_children() if found.startswith(comm[:15])}
                expect(before, "it runs", w.plane_children())
                for pid in before:
                    os.kill(pid, signal.SIGKILL)
                wait_for("others run", lambda: len({pid for pid, found in w.plane_children() if found.startswith(comm[:15])} - before)
                         == len(before), 15)
                wait_for("it serves", lambda: w.http("GET", "/api/v1/health").status == 200 and node.is_connected()
                         and shown(w)["connected"], 30)
        with s.step("one that dies again and again is started later and later"):
            delays = []
            while len(delays) < 8 and max(delays, default=0) < 1.5:  # each is a random part of twice as much
                pid = wait_for("it runs", lambda: [pid for pid, found in w.plane_children() if found == "docker-registry"], 30, 0.02)[0]
                os.kill(pid, signal.SIGKILL)
                began = time.monotonic()
                wait_for("it runs again", lambda: [p for p, found in w.plane_children() if found == "docker-registry" and p != pid],
                         30, 0.02)
                delays.append(time.monotonic() - began)
            s.tally.note("started again after " + ", ".join(f"{d:.1f} s" for d in delays))
            expect(max(delays) >= 1.5, delays)
        with s.step("nothing that is secret can be read by others"):
            for path in (w.plane_root / "var/lib/gridplane").rglob("*"):
                if path.suffix == ".key" or path.name.startswith("plane.db"):
                    expect(stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path, oct(path.stat().st_mode))
            expect(stat.S_IMODE((w.plane_root / "run/gridplane/admin.sock").stat().st_mode) & 0o007 == 0, "admin.sock")
        checks(s, w)
        life(s, w, node)


def shown(w):
    return w.plane("node", "show", "branch-12", "--json").json


def checks(s, w):
    fresh = w.folder / "fresh"
    with s.step("gridplane check is content with a good machine, and names a port that is taken, and by whom"):
        w.run("lan", w.gridplane, "check", "--root", fresh, "--domain", "grid.example", "--listen", "10.20.0.9:444,10.20.0.9:8444",
              accept=(0, 3))
        taken = w.start("lan", "/usr/bin/python3", "-c", "import socket, time; s = socket.socket(); "
                        "s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('10.20.0.9', 444)); s.listen(); time.sleep(60)")
        wait_for("it listens", lambda: ":444" in w.run("lan", "ss", "-Hltn", "sport", "=", "444").out)
        found = w.run("lan", w.gridplane, "check", "--root", fresh, "--domain", "grid.example", "--listen",
                      "10.20.0.9:444,10.20.0.9:8444", accept=(1,))
        found.says("444", "python3")
        started = w.run("lan", w.gridplane, "serve", "--root", fresh, "--domain", "grid.example", "--listen",
                        "10.20.0.9:444,10.20.0.9:8444", accept=(1, 69, 78), timeout=30)
        started.says("444")
        taken.kill()
    with s.step("a disk with little room is named, and one with next to none is no place to start on"):
        small = w.folder / "small"
        small.mkdir()
        for size, status in ((100, 3), (16, 1)):
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}m", "tmpfs", small], check=True)
            try:
                w.run("lan", w.gridplane, "check", "--root", small, "--domain", "grid.example", "--listen",
                      "10.20.0.9:444,10.20.0.9:8444", accept=(status,)).says(f"{size} MiB left", "make room")
            finally:
                subprocess.run(["umount", small], check=True)
    with s.step("a clock that cannot be right and a certificate soon to expire are named"):
        w.plane("check", shift=-400 * DAY_S, accept=(1, 3)).says("clock")
        w.plane("check", shift=88 * DAY_S, accept=(1, 3)).says("certificate")
    with s.step("a wrong line of gridplane.conf is named with its place"):
        conf = w.folder / "wrong.conf"
        for text, words in (("[plane]\ndomain = grid.example\ncolour = red\n", ["wrong.conf:3", "colour"]),
                            ("[plane]\ndomain = not a domain\n", ["wrong.conf:2"]), ("[plane]\nlisten = 99999\n", ["wrong.conf:2"])):
            conf.write_text(text)
            w.run("inet", w.gridplane, "check", "--root", fresh, "--config", conf, accept=(78, 1)).says(*words)
            w.run("inet", w.gridplane, "serve", "--root", fresh, "--config", conf, accept=(78,), timeout=20).says(*words)
        w.run("inet", w.gridplane, "serve", "--root", fresh, accept=(64, 78), timeout=20).says("domain")


def life(s, w, node):
    with s.step("a second control plane on the same folder is refused"):
        w.run("inet", w.gridplane, "serve", "--root", w.plane_root, accept=(1, 69), timeout=30).says("already")
    with s.step("SIGTERM stops all children"):
        pids = [w.plane_pid(), *[pid for pid, _ in w.plane_children()]]
        expect(len(pids) >= 5, pids)
        w.kill_plane()
        wait_for("all of them end", lambda: not any(map(is_alive, pids)), 10)
        listening = w.run("inet", "ss", "-Hltnp", "src", "198.51.100.20").out
        expect(listening == "", "somebody listens", listening)
        w.plane("node", "list", accept=(69,)).says("gridplane serve")
    with s.step("it starts again, with what it knew, and the node comes back"):
        w.start_plane()
        wait_for("connected", lambda: shown(w)["connected"], 30)
    with s.step("SIGKILL leaves nothing that hinders the next start"):
        pids = [w.plane_pid(), *[pid for pid, _ in w.plane_children()]]
        w.kill_plane(signal.SIGKILL)
        w.start_plane()
        wait_for("connected", lambda: shown(w)["connected"], 30)
        expect(not any(map(is_alive, pids)), "an old one is left", [pid for pid in pids if is_alive(pid)])
    with s.step("as CSV the events are the same as in JSON"):
        rows = list(csv.DictReader(io.StringIO(w.plane("event", "list", "--csv").out)))
        items = w.plane("event", "list", "--json").json["items"]
        expect([row["id"] for row in rows] == [e["id"] for e in items] or
               sorted(row["id"] for row in rows) == sorted(e["id"] for e in items), rows, items)
        expect(rows[0].keys() >= {"generated", "received", "node_name", "name", "severity", "message", "cause"}, rows[0])


SCENARIOS = [servers, organisations, people]
