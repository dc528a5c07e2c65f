#!/usr/bin/python3
"""Upgrades of a fleet, with the real control plane and nodes that speak to it as nodes do. test_upgrade.py BUILD-FOLDER

Each node is registered, with its own store and channel; its updater is played (fleet.c). Two more are Debians under systemd with the
package of this tree, which is really replaced. Needs root. Ends with the line "N passed, N failed"."""

import csv
import functools
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import debian_root  # noqa: E402
from plane_site import SITE_CONF, Site, expect, stop, wait_for  # noqa: E402
from update_world import UPDATE, debs, field, leave_to_test, node_deb  # noqa: E402

NODES = 12
JUDGE_MS = 8000  # how long a new daemon has to show that it is well, in the place of 10 minutes


class World:
    def __init__(self, site, build):
        self.site, self.build = site, pathlib.Path(build).resolve()
        self.log = site.folder / "fleet.log"
        self.nodes, self.process = [], None

    def add(self, name, organisation=None):
        node = self.site.new_node(name, **({"organisation": organisation} if organisation else {}))
        self.nodes.append(node)
        self.behave(node, "good 300")
        return node

    def behave(self, node, text):
        path = node.root / "behaviour"
        path.with_suffix(".new").write_text(text)
        path.with_suffix(".new").rename(path)

    def start(self, *without):
        roots = [node.root for node in self.nodes if node not in without]
        log = open(self.log, "a", encoding="utf-8")
        self.process = self.site.start("node", self.build / "tests/lab/fleet", *roots, log=log)
        here = [node.id for node in self.nodes if node not in without]
        wait_for("the nodes are connected", lambda: all(self.site.is_connected(node) for node in self.nodes if node.id in here), 60)

    def stop(self):
        stop(self.process)
        wait_for("the nodes are gone", lambda: not any(self.site.is_connected(node) for node in self.nodes), 60)

    def begun(self, upgrade):
        """How often each node began an update by this upgrade."""
        lines = [line.split() for line in self.log.read_text(errors="replace").splitlines()]
        nodes = [words[0] for words in lines if len(words) == 2 and words[1] == f"upgrade:{upgrade}"]
        return {node: nodes.count(node) for node in nodes}

    def plan(self, name, *words):
        return self.site.plane("upgrade", "plan", name, *words).strip()

    def show(self, upgrade, *words):
        return json.loads(self.site.plane("upgrade", "status", upgrade, "--json", *words))

    def counts(self, upgrade):
        return {state: number for state, number in self.show(upgrade)["counts"].items() if number}

    def wait(self, what, upgrade, look, seconds=60):
        try:
            return wait_for(what, lambda: look(self.show(upgrade)), seconds, 0.3)
        except Exception as error:
            raise AssertionError(f"{error}\n{self.site.plane('upgrade', 'status', upgrade, '--timeline')}") from error


class Real:
    """A node that is a machine, in the network of the others."""

    def __init__(self, site, name, deb):
        self.site, self.name = site, name
        self.machine = debian_root.Machine("node", debian_root.NODE, namespace=f"/run/netns/gl-{site.name}-node",
                                           folder=site.folder / f"gl-{site.name}-{name}")
        self.machine.folder.mkdir()
        self.machine.boot(dress=self.dress)
        inside = f"/var/tmp/{deb.name}"
        self.machine.path(inside).write_bytes(deb.read_bytes())
        self.machine.run("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "--yes", "--quiet=2", "install", inside, timeout=180)
        self.machine.run("systemctl", "daemon-reload")
        self.machine.path("/etc/gridnode/site.conf").write_text(SITE_CONF.format(name=name))
        self.id = None

    def dress(self, layer):
        for name, text in {
                "etc/resolv.conf": "nameserver 198.51.100.53\nnameserver 203.0.113.53\n",
                "etc/apt/sources.list": "# none\n", "etc/hostname": f"{self.name}\n", "etc/hosts": f"127.0.0.1 localhost {self.name}\n",
                "etc/systemd/system/gridnode-update.service.d/judge.conf":
                    f"[Service]\nExecStart=\nExecStart={UPDATE}/bin/gridnode-judge --judge-ms {JUDGE_MS}\n"}.items():
            (layer / name).parent.mkdir(parents=True, exist_ok=True)
            (layer / name).write_text(text)

    def register(self):
        token = self.site.folder / f"{self.name}.token"
        self.site.plane("node", "create", self.name, "--site", "leeds", "--output", token)
        self.machine.path("/root/token").write_bytes(token.read_bytes())
        self.machine.path("/root/token").chmod(0o600)
        self.machine.path("/root/root.pem").write_bytes((self.site.state / "node/grid-root.pem").read_bytes())
        self.machine.run("gridnode", "register", "https://repo.grid.example", "--token-file", "/root/token", "--root-ca",
                         "/root/root.pem")
        self.id = json.loads(self.machine.read("/var/lib/gridnode/identity.json"))["node"]

    def package(self):
        return self.machine.run("dpkg-query", "-W", "-f", "${Status} ${Version}", "gridnode").stdout

    def history(self):
        return json.loads(self.machine.run("gridnode", "update", "--history", "--json").stdout)

    def words(self):
        """For whoever looks why."""
        return self.machine.run("sh", "-c", f"tail -n 60 {UPDATE}/log/*.log; journalctl -q -n 60 -o cat", check=False).stdout


class Reals:
    """Both, made while other tests run; registered after those, whose upgrades are of all nodes."""

    def __init__(self, site, count=2):
        self.site, self.count, self.nodes, self.failure = site, count, [], None
        self.thread = threading.Thread(target=self.make, daemon=True)
        self.thread.start()

    def make(self):
        try:
            self.deb = node_deb()
            for i in range(self.count):
                self.nodes.append(Real(self.site, f"real-{i + 1}", self.deb))
        except Exception as error:  # told by who waits for them
            self.failure = error

    def get(self):
        self.thread.join(300)
        expect(len(self.nodes) == self.count, f"the machines are not there: {self.failure!r}")
        for node in self.nodes:
            if node.id is None:
                node.register()
                wait_for(f"{node.name} is connected", functools.partial(self.site.is_connected, node), 60)
                leave_to_test(self.site, node.name, lambda *words, at=node.machine: at.run(*words).stdout)
        return self.nodes

    def close(self):
        self.thread.join(300)
        for node in self.nodes:
            node.machine.close()


def is_over(shown):
    return shown["state"] == "completed"


# ---- what is tested; each leaves the nodes as they were ----

def wave_by_wave(w):
    """Three waves; none begins before the one before has ended; tags, CSV and the node's view tell the same."""
    w.site.plane("node", "tag", "edge-1", "manualupdate=true", "ring=late")
    w.site.plane("node", "tag", "edge-2", "ring=late")
    w.plan("spring", "--waves", "10%,50%,100%", "--exclude", "ring=late")
    preview = w.site.plane("upgrade", "dry-run", "spring")
    expect("Wave 1, up to 10 %: 1 node" in preview and "excluded by its tag ring=late" in preview, preview)
    w.site.plane("upgrade", "start", "spring")
    shown = w.wait("it is completed", "spring", lambda s: s if is_over(s) else None)
    expect(shown["counts"]["DONE"] == NODES - 2 and shown["counts"]["SKIPPED"] == 2, shown["counts"])
    told = w.begun(shown["id"])
    expect(len(told) == NODES - 2 and set(told.values()) == {1}, told)
    timeline = [line["text"] for line in reversed(w.show("spring", "--timeline")["timeline"])]
    waves = [i for i, text in enumerate(timeline) if " begins: " in text]
    expect(len(waves) == 3, timeline)
    for begins, name in zip(waves[1:], ("first", "second")):
        before = timeline[:begins]
        expect(sum("to DONE" in text for text in before) == sum("NEW to READY" in text for text in before), name, timeline)
    rows = list(csv.DictReader(io.StringIO(w.site.plane("upgrade", "export", "spring"))))
    expect(sorted(row["state"] for row in rows) == sorted(["DONE"] * (NODES - 2) + ["SKIPPED"] * 2), rows)
    done = next(row for row in rows if row["state"] == "DONE")
    expect(done["reason"] == "0.1.0 → 0.2.0", done)
    expect("Completed" in w.site.plane("update", "list", "--node", done["name"]), "the node's update is not in the list")
    expect(w.site.plane("update", "list", "--csv").startswith("started,ended,node_name"), "no CSV")
    expect(f"by: upgrade:{shown['id']}" in w.site.plane("update", "show", done["update"]), done["update"])
    node = json.loads(w.site.plane("node", "show", done["name"], "--json"))
    expect(node["update"]["status"] == "Completed" and node["update"]["version"] == "0.2.0", node["update"])
    w.site.plane("node", "tag", "edge-1", "--remove", "manualupdate,ring")
    w.site.plane("node", "tag", "edge-2", "--remove", "ring")


def one_at_a_time(w):
    """Another organisation's does not count; a second one of the same is refused with a conflict."""
    for node in w.nodes:
        w.behave(node, "good 3000")
    w.plan("first")
    w.plan("second")
    w.site.plane("upgrade", "start", "first")
    refused = w.site.plane("upgrade", "start", "second", accept=(1,))
    expect("one at a time" in refused, refused)
    w.site.plane("upgrade", "plan", "theirs", "--org", "acme")
    w.site.plane("upgrade", "start", "theirs", "--org", "acme")
    expect("no such upgrade" in w.site.plane("upgrade", "status", "first", "--org", "acme", accept=(1,)), "it crossed")
    expect("theirs" not in w.site.plane("upgrade", "status"), "it crossed")
    w.wait("it is completed", "first", is_over)
    mine = {node.id for node in w.nodes if not node.name.startswith("acme")}
    expect(set(w.begun(w.show("first")["id"])) == mine, "nodes of another organisation were asked")
    for node in w.nodes:
        w.behave(node, "good 300")


def stops_itself(w):
    """Two of four fail: the rest does not begin. Retry takes them up, and it goes on to its end."""
    for node in w.nodes:
        w.behave(node, "fail 200")
    w.plan("bad", "--waves", "34%,100%", "--stop-at", "20%")
    w.site.plane("upgrade", "start", "bad")
    shown = w.wait("it stopped itself", "bad", lambda s: s if s["state"] == "stopped" else None)
    expect(shown["counts"]["ERROR"] and shown["counts"]["NEW"] >= NODES - 5, shown["counts"])
    expect("the disk is full" in w.site.plane("upgrade", "status", "bad"), "its reason is not told")
    expect("stopped itself" in w.site.plane("event", "list", "--name", "Fleet Upgrade"), "no event tells it")
    expect("upgrade.stop" in w.site.plane("audit", "list", "--action", "upgrade.stop"), "the audit log does not have it")
    expect("'retry'" in w.site.plane("upgrade", "resume", "bad", accept=(1,)), "it resumed with its failures")
    for node in w.nodes:
        w.behave(node, "good 200")
    w.site.plane("upgrade", "retry", "bad")
    shown = w.wait("it is completed", "bad", lambda s: s if is_over(s) else None, 120)
    expect(shown["counts"]["DONE"] == NODES and shown["counts"]["ERROR"] == 0, shown["counts"])


def pause_and_cancel(w):
    """Paused: who works goes on, nobody else begins. Cancelled: the rest is skipped."""
    for node in w.nodes:
        w.behave(node, "good 2500")
    w.plan("slow", "--waves", "25%,100%")
    w.site.plane("upgrade", "start", "slow")
    w.wait("some work", "slow", lambda s: s["counts"]["WORKING"] == 3)
    w.site.plane("upgrade", "pause", "slow")
    w.wait("they are done", "slow", lambda s: s["counts"]["DONE"] == 3)
    time.sleep(3)
    expect(w.counts("slow") == {"DONE": 3, "NEW": NODES - 3}, w.counts("slow"))
    w.site.plane("upgrade", "resume", "slow")
    w.wait("the others work", "slow", lambda s: s["counts"]["WORKING"] > 0)
    w.site.plane("upgrade", "cancel", "slow")
    w.wait("those that work end", "slow", lambda s: s["counts"]["WORKING"] == 0)
    counts = w.counts("slow")
    expect(w.show("slow")["state"] == "cancelled" and counts["DONE"] + counts.get("SKIPPED", 0) == NODES, counts)
    for node in w.nodes:
        w.behave(node, "good 300")


def killed(w):
    """kill -9 of the control plane again and again: each node begins once, and all of it ends."""
    for node in w.nodes:
        w.behave(node, "good 2000")
    upgrade = w.plan("killed", "--waves", "20%,60%,100%")
    w.site.plane("upgrade", "start", "killed")
    for pause in (0.1, 0.7, 1.5, 2.3, 0.4):
        time.sleep(pause)
        w.site.stop_plane(signal.SIGKILL)
        w.site.start_plane()
        wait_for("it answers", lambda: "is" in w.site.plane("upgrade", "status", "killed", accept=None), 30)
    shown = w.wait("it is completed", "killed", lambda s: s if is_over(s) else None, 240)
    expect(shown["counts"]["DONE"] == NODES, shown["counts"])
    told = w.begun(upgrade)
    expect(len(told) == NODES and set(told.values()) == {1}, told)
    for node in w.nodes:
        w.behave(node, "good 300")


def ends_of_nodes(w):
    """A node without an end, one that refuses, one with nothing newer, one that is away: each with its reason."""
    silent, refuses, newest = w.nodes[0], w.nodes[1], w.nodes[2]
    w.behave(silent, "silent 0")
    w.behave(refuses, "refuse 0")
    w.behave(newest, "newest 0")
    w.plan("mixed", "--limit", "1", "--stop-at", "100")
    w.site.plane("upgrade", "start", "mixed")
    shown = w.wait("it is completed", "mixed", lambda s: s if is_over(s) else None, 150)
    nodes = {node["name"]: node for node in shown["nodes"]}
    expect((nodes[silent.name]["state"], nodes[silent.name]["reason"]) == ("ERROR", "no end within 1 minute"), nodes[silent.name])
    expect((nodes[refuses.name]["state"], nodes[refuses.name]["reason"]) == ("ERROR", "this is not how a node is asked"),
           nodes[refuses.name])
    expect((nodes[newest.name]["state"], nodes[newest.name]["reason"]) == ("SKIPPED", "already 0.1.0"), nodes[newest.name])
    expect(shown["counts"]["DONE"] == NODES - 3, shown["counts"])


def away(w):
    """Nobody waits for who has been away; who is back in time is asked."""
    w.stop()
    w.site.plane("upgrade", "plan", "away")
    w.site.plane("upgrade", "start", "away")
    w.wait("they are READY", "away", lambda s: s["counts"]["READY"] == NODES)
    expect("offline since 20" in w.site.plane("upgrade", "status", "away"), "no reason")
    for node in w.nodes:
        w.behave(node, "good 300")
    w.start()
    shown = w.wait("it is completed", "away", lambda s: s if is_over(s) else None)
    expect(shown["counts"]["DONE"] == NODES, shown["counts"])


def wrong_input(w):
    for words, sentence in (
            (("plan", "x", "--waves", "5%,25%"), "100"), (("plan", "x", "--waves", "lots"), "--waves takes"),
            (("plan", "x", "--stop-at", "200"), "--stop-at takes"), (("plan", "Not A Name"), "name"),
            (("start", "nothing"), "no such upgrade"), (("plan", "x", "--include", "=x"), "tag")):
        said = w.site.plane("upgrade", *words, accept=(1, 64))
        expect(sentence in said, words, said)
    expect("KEY=VALUE" in w.site.plane("node", "tag", "edge-1", "ring", accept=(64,)), "a tag without a value")


# ---- with packages that are really replaced ----

def by_upgrade(site, upgrade, status):
    """The updates of this upgrade that ended so, as the control plane has them from the nodes' events."""
    items = json.loads(site.plane("update", "list", "--status", status, "--json"))["items"]
    return {item["node_name"]: item for item in items if item["by"] == f"upgrade:{upgrade}"}


def real_packages(w):
    """Two machines take a newer package in, one wave after the other; a third node is left to who updates it by hand."""
    first, second = w.reals.get()
    before = field(w.reals.deb, "Version")
    for name, tags in ((first.name, []), (second.name, []), ("edge-0", ["manualupdate=true"])):
        w.site.plane("node", "tag", name, "fleet=real", *tags)
    w.reals.newer, = debs("--repack", w.reals.deb, "--output", w.site.folder, "--version", "0.2.0", "--programs")
    w.site.plane("package", "add", w.reals.newer, timeout=120)
    upgrade = w.plan("real", "--include", "fleet=real", "--waves", "50%,100%")
    preview = w.site.plane("upgrade", "dry-run", "real")
    expect("Wave 1" in preview and "Wave 2" in preview and "manualupdate" in preview, preview)
    asked = w.site.plane("upgrade", "dry-run", "real", "--ask", timeout=120)
    expect(asked.count("0.2.0") >= 2 and all(node.package().endswith(f" {before}") for node in (first, second)), asked)
    w.site.plane("upgrade", "start", "real")
    shown = w.wait("it is completed", "real", lambda s: s if is_over(s) else None, 120)
    expect({n["name"]: (n["state"], n["reason"]) for n in shown["nodes"]} ==
           {first.name: ("DONE", f"{before} → 0.2.0"), second.name: ("DONE", f"{before} → 0.2.0"),
            "edge-0": ("SKIPPED", next(n["reason"] for n in shown["nodes"] if n["name"] == "edge-0"))}, shown["nodes"])
    expect("manualupdate" in next(n["reason"] for n in shown["nodes"] if n["name"] == "edge-0"), shown["nodes"])
    for node in (first, second):
        expect(node.package() == "install ok installed 0.2.0", node.package(), node.words())
        status = json.loads(node.machine.run("gridnode", "status", "--json").stdout)
        expect(status["version"] == "0.2.0" and node.history()[0]["job"]["by"] == f"upgrade:{upgrade}", status["update"])
    updates = by_upgrade(w.site, upgrade, "Completed")
    expect(set(updates) == {first.name, second.name}, updates)
    expect(len({u["started"] for u in updates.values()}) == 2, updates)
    expect(min(u["ended"] for u in updates.values()) < max(u["started"] for u in updates.values()), "the waves ran at once", updates)
    rows = {row["name"]: row for row in csv.DictReader(io.StringIO(w.site.plane("upgrade", "export", "real")))}
    expect({name: row["state"] for name, row in rows.items()} ==
           {first.name: "DONE", second.name: "DONE", "edge-0": "SKIPPED"}, rows)
    timeline = [line["text"] for line in reversed(w.show("real", "--timeline")["timeline"])]
    expect(sum(" begins: " in text for text in timeline) == 2 and sum("to DONE" in text for text in timeline) == 2, timeline)
    told = w.site.plane("event", "list", "--name", "Software Update", "--node", first.name)
    expect(f"upgrade:{upgrade}" in told and f"{before} → 0.2.0" in told, told)


def real_bad_version(w):
    """Its daemon does not start: the first node puts its version back, and nobody else is asked."""
    first, second = w.reals.get()
    bad, = debs("--repack", w.reals.newer, "--output", w.site.folder, "--version", "0.3.0", "--defect", "daemon")
    w.site.plane("package", "add", bad, timeout=120)
    upgrade = w.plan("worse", "--include", "fleet=real", "--waves", "50%,100%", "--stop-at", "10%")
    w.site.plane("upgrade", "start", "worse")
    shown = w.wait("it stopped itself", "worse", lambda s: s if s["state"] == "stopped" else None, 120)
    states = {n["name"]: n["state"] for n in shown["nodes"]}
    failed = next(node for node in (first, second) if states[node.name] == "ERROR")
    other = second if failed is first else first
    expect(states == {failed.name: "ERROR", other.name: "NEW", "edge-0": "SKIPPED"}, states)
    reason = next(n["reason"] for n in shown["nodes"] if n["name"] == failed.name)
    expect("0.3.0 failed on this node" in reason and "0.2.0 is installed again" in reason, reason)
    expect(reason in w.site.plane("upgrade", "status", "worse"), "its reason is not shown")
    for node in (first, second):
        expect(node.package() == "install ok installed 0.2.0", node.package(), node.words())
    wait_for("the daemon that was put back is connected", functools.partial(w.site.is_connected, failed), 30)
    expect(other.history()[0]["job"]["by"] != f"upgrade:{upgrade}", other.history()[0])
    expect(set(by_upgrade(w.site, upgrade, "Failed")) == {failed.name}, upgrade)
    events = w.site.plane("event", "list", "--name", "Fleet Upgrade")
    expect(any("worse" in line and "stopped itself" in line for line in events.splitlines()), events)
    expect("0.3.0" in w.site.plane("update", "show", by_upgrade(w.site, upgrade, "Failed")[failed.name]["id"]), "no log")


TESTS = [wave_by_wave, one_at_a_time, stops_itself, pause_and_cancel, killed, ends_of_nodes, away, wrong_input, real_packages,
         real_bad_version]


def main():
    build, wanted = sys.argv[1], sys.argv[2:]
    passed = failed = 0
    with Site(build, f"fleet{os.getpid()}"[:11]) as site:
        w = World(site, build)
        site.plane("org", "add", "acme")
        for i in range(NODES):
            w.add(f"edge-{i}")
        theirs = w.add("acme-1", organisation="acme")
        w.start()
        w.nodes.remove(theirs)
        w.reals = Reals(site)
        try:
            for test in TESTS:
                if wanted and test.__name__ not in wanted:
                    continue
                begun = time.monotonic()
                try:
                    test(w)
                    passed += 1
                    if os.environ.get("VERBOSE"):
                        print(f"ok {test.__name__} in {time.monotonic() - begun:.0f} s", flush=True)
                except Exception as error:  # whatever it is, the others go on
                    failed += 1
                    print(f"FAILED {test.__name__}: {type(error).__name__}: {error}", flush=True)
        finally:
            w.reals.close()
        words = [line for line in site.plane_words().splitlines() if "Sanitizer" in line or "runtime error" in line]
        if words:
            failed += 1
            print("\n".join(words))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except subprocess.TimeoutExpired as error:
        print(error)
        print("0 passed, 1 failed")
        sys.exit(1)
