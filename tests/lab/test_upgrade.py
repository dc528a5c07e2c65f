#!/usr/bin/python3
"""Upgrades of a fleet, with the real control plane and nodes that speak to it as nodes do. test_upgrade.py BUILD-FOLDER

Each node is registered, with its own store and channel; its updater is played (fleet.c). Needs root. Ends with the line
"N passed, N failed"."""

import csv
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from plane_site import Site, expect, stop, wait_for  # noqa: E402

NODES = 12


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


TESTS = [wave_by_wave, one_at_a_time, stops_itself, pause_and_cancel, killed, ends_of_nodes, away, wrong_input]


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
