#!/usr/bin/python3
"""kill -9 of every process at random points loses and duplicates no event. test_kill.py BUILD [--kills N] [--seed N]

A lab with a control plane, nodes with real daemons whose way to the repository is blocked and opened again, and nodes that add
numbered events as fast as they can (producer.c). Daemons, helpers, their supervisors, gridplane, nginx's masters and workers,
mosquitto and docker-registry are killed; gridplane restarts its children, this restarts gridplane and daemons as systemd would. In
the end what the plane has is held against what the nodes' own stores say. Ends with the line "N passed, N failed"."""

import argparse
import os
import random
import signal
import subprocess
import sys
import threading
import time

sys.dont_write_bytecode = True

from plane_site import (Failed, Site, children, compare, program_of, query, sanitizer_words, stop, wait_for,
                        works_in)  # noqa: E402

DAEMONS, PRODUCERS = 3, 2
MOST_WAITING = 400  # of a producer: what it must still send in the end
# How often each is chosen, of the sum.
VICTIMS = {"daemon": 4, "producer": 5, "helper": 2, "supervisor": 1, "gridplane": 3, "nginx": 2, "nginx worker": 3, "mosquitto": 4,
           "registry": 2}
RESTART_S = (0.05, 0.8)  # the pause before a restart
DRAIN_S = 90


class Keeper(threading.Thread):
    """Keeps a program running, as systemd would, and notes each end that was not a kill of ours."""

    def __init__(self, name, start, chance):
        super().__init__(daemon=True)
        self.name_of, self.start_one, self.chance = name, start, chance
        self.process, self.ends, self.starts = None, [], 0
        self.killed = set()
        self.is_over = threading.Event()
        self.lock = threading.Lock()

    def run(self):
        while not self.is_over.is_set():
            with self.lock:
                if self.is_over.is_set():
                    return
                self.process = self.start_one()
                self.starts += 1
            status = self.process.wait()
            if self.is_over.is_set():
                return
            if self.process.pid not in self.killed:
                self.ends.append(status)
            self.is_over.wait(self.chance.uniform(*RESTART_S))

    def kill(self):
        """False when it is just not there."""
        process = self.process
        if process is None or process.poll() is not None:
            return False
        self.killed.add(process.pid)
        process.kill()
        return True

    def end(self):
        """Its exit status."""
        with self.lock:
            self.is_over.set()
        status = stop(self.process, 20)
        self.join(5)
        return status


class Producer:
    """A node whose events are numbered. What it has put into its store it writes to a list of its own as well."""

    def __init__(self, site, node):
        self.site, self.node = site, node
        self.list = site.folder / f"{node.name}.list"
        self.waiting = MOST_WAITING

    def start(self):
        first = 1
        if self.node.database.exists():
            rows = query(self.node.database, "SELECT seq FROM sqlite_sequence WHERE name = 'item'")
            first = rows[0][0] + 1 if rows else 1
        with open(self.node.log, "a", encoding="utf-8") as log:
            return self.site.start("node", self.site.build / "tests/lab/producer", self.node.root, self.list, first, self.waiting,
                                   log=log)

    def listed(self):
        return [int(line) for line in self.list.read_text().split()]


class Test:
    def __init__(self, site, chance):
        self.site, self.chance = site, chance
        self.daemons = [site.new_node(f"branch-{i}") for i in range(1, DAEMONS + 1)]
        self.producers = [Producer(site, site.new_node(f"numbered-{i}")) for i in range(1, PRODUCERS + 1)]
        site.stop_plane()
        self.plane = Keeper("gridplane", site.start_plane, random.Random(chance.random()))
        self.keepers = {node.name: Keeper(node.name, lambda node=node: self.start_daemon(node), random.Random(chance.random()))
                        for node in self.daemons}
        self.keepers |= {p.node.name: Keeper(p.node.name, p.start, random.Random(chance.random())) for p in self.producers}
        self.kills = {name: 0 for name in VICTIMS}
        self.is_blocked = False

    @staticmethod
    def start_daemon(node):
        node.start()
        return node.process

    def start(self):
        for keeper in (self.plane, *self.keepers.values()):
            keeper.start()
        try:
            wait_for("all nodes are connected", lambda: all(map(self.has_come, self.site.nodes)), 40)
        except Failed:
            for text in (self.site.plane_words(), *(node.words() for node in self.site.nodes)):
                print("".join(text.splitlines(True)[-8:]))
            raise

    def has_come(self, node):
        return self.site.plane_rows("SELECT 1 FROM events WHERE node = ? LIMIT 1", node.id)

    # --- victims ---

    def services(self, program):
        """What is only asked what it thinks of its configuration, before a start, too."""
        folders = list((self.site.plane_root / "var/lib/gridplane/services").iterdir())
        return [pid for pid in children(self.plane.process.pid) if program_of(pid) == program and works_in(pid, folders)]

    def masters(self):
        """nginx has two: that of HTTPS and the splitter."""
        return self.services("nginx")

    def candidates(self, victim):
        if victim == "nginx":
            return self.masters()
        if victim == "nginx worker":
            return [worker for master in self.masters() for worker in children(master) if program_of(worker) == "nginx"]
        if victim in ("mosquitto", "registry"):
            return self.services({"mosquitto": "mosquitto", "registry": "docker-registry"}[victim])
        supervisors = [pid for node in self.daemons if node.process for pid in children(node.process.pid)
                       if program_of(pid) == "gridnode-helper"]
        return supervisors if victim == "supervisor" else [helper for pid in supervisors for helper in children(pid)]

    def helpers_left(self):
        pids = subprocess.run(["ip", "netns", "pids", f"gl-{self.site.name}-node"], capture_output=True, text=True, check=True).stdout.split()
        return [pid for pid in pids if program_of(pid) == "gridnode-helper"]

    def kill_one(self, victim):
        if victim == "gridplane":
            return self.plane.kill()
        if victim in ("daemon", "producer"):
            names = [node.name for node in self.daemons] if victim == "daemon" else [p.node.name for p in self.producers]
            self.chance.shuffle(names)
            return any(self.keepers[name].kill() for name in names)
        found = self.candidates(victim)
        if not found:
            return False
        try:
            os.kill(self.chance.choice(found), signal.SIGKILL)
        except ProcessLookupError:
            return False
        return True

    def kill(self, victim):
        """At a random point of its life, its first moments among them."""
        time.sleep(self.chance.choice((self.chance.uniform(0, 0.1), self.chance.uniform(0.1, 1.2))))
        end = time.monotonic() + 10
        while not self.kill_one(victim):
            if time.monotonic() > end:
                return False
            time.sleep(0.005)
        self.kills[victim] += 1
        return True

    # --- what happens meanwhile ---

    def block(self, is_blocked):
        """The way to the repository, in the firewall: so the daemons have something to tell."""
        if is_blocked:
            rules = ("add table inet kill; add chain inet kill forward { type filter hook forward priority 0; };"
                     "add rule inet kill forward tcp dport 443 drop")
        else:
            rules = "delete table inet kill"
        if is_blocked != self.is_blocked:
            subprocess.run(["ip", "netns", "exec", f"gl-{self.site.name}-fw", "nft", rules], check=True)
        self.is_blocked = is_blocked

    def run(self, count):
        names, weights = list(VICTIMS), list(VICTIMS.values())
        order = names + self.chance.choices(names, weights, k=max(0, count - len(names)))
        order = order[:count]
        self.chance.shuffle(order)
        began = time.monotonic()
        for number, victim in enumerate(order):
            if not self.kill(victim):
                # A supervisor comes back with its daemon only, and a service after its pause: another one in its place.
                victim = "producer"
                self.kill(victim)
            self.block(int(time.monotonic() - began) // 20 % 2 == 0)
            if number % 3 == 2:
                self.site.touch_route()
            if number % 20 == 19:
                print(f"{number + 1} kills in {time.monotonic() - began:.0f} s, at the plane "
                      f"{self.site.plane_rows('SELECT count(*) FROM events')[0][0]} events", flush=True)

    # --- the end ---

    def settle(self):
        """Nothing is killed any more; nothing new is numbered; everything must come through."""
        self.block(False)
        for producer in self.producers:
            keeper = self.keepers[producer.node.name]
            keeper.end()
            producer.waiting = 0
            again = Keeper(producer.node.name, producer.start, random.Random(0))
            again.ends = keeper.ends
            self.keepers[producer.node.name] = again
            again.start()
        wait_for("the plane answers", lambda: self.plane.process.poll() is None and "mosquitto" in map(
            program_of, children(self.plane.process.pid)), 60)
        began = time.monotonic()
        try:
            wait_for("nothing waits on any node", self.is_settled, DRAIN_S, 0.5)
        except Failed as failure:
            print(f"{failure}: " + ", ".join(f"{node.name} {node.waiting()}" for node in self.site.nodes))
        print(f"everything had arrived {time.monotonic() - began:.1f} s after the last kill", flush=True)

    def is_settled(self):
        self.site.touch_route()
        return all(node.waiting() == 0 for node in self.site.nodes)

    def results(self):
        """Pairs: what must be true, and what speaks against it."""
        statuses = {name: keeper.end() for name, keeper in self.keepers.items()}
        ends = {name: keeper.ends for name, keeper in self.keepers.items() if keeper.ends}
        yield "no daemon ended by itself", ends
        yield "daemons end when they are asked to", {name: status for name, status in statuses.items() if status != 0}
        try:
            wait_for("all helpers have ended", lambda: not self.helpers_left(), 5)
        except Failed:
            pass
        yield "no helper outlives its daemon, whatever was killed", self.helpers_left()
        signalled = [status for status in self.plane.ends if status < 0 or status == 99]
        yield "gridplane never crashed", signalled
        yield "gridplane starts again at once, whatever was killed", [s for s in self.plane.ends if s not in signalled]
        for node in self.site.nodes:
            wrong, count = compare(self.site, node)
            yield f"{node.name}: all of {count} are at the plane, once, in order, as told", wrong
        for producer in self.producers:
            listed = producer.listed()
            rows = self.site.plane_rows("SELECT message FROM events WHERE node = ? AND name = 'Numbered'", producer.node.id)
            texts = [row[0] for row in rows]
            reports = {n for n in listed if n % 25 == 0}
            missing = {f"number {n}" for n in listed} - set(texts)
            known = {row[0] for row in self.site.plane_rows("SELECT seq FROM reports WHERE node = ?", producer.node.id)}
            yield (f"{producer.node.name}: each of {len(listed)} numbers of its own list is there",
                   sorted(m for m in missing if int(m.split()[1]) not in known)[:20])
            yield f"{producer.node.name}: no number is there twice", len(texts) - len(set(texts))
            yield f"{producer.node.name}: its reports came", sorted(reports & (known ^ reports))[:20] and not known
        status = self.plane.end()
        yield "gridplane ends when it is asked to", status
        databases = [self.site.plane_root / "var/lib/gridplane/plane.db", *(node.database for node in self.site.nodes)]
        yield "every database is whole", [path for path in databases if query(path, "PRAGMA integrity_check") != [("ok",)]]
        yield "none was put aside", [str(path) for node in self.site.nodes for path in node.state.glob("*.damaged*")]
        yield "no word of the sanitizers", [line for text in (self.site.plane_words(), *(node.words() for node in self.site.nodes))
                                            for line in sanitizer_words(text)][:10]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("build")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--keep", action="store_true", help="leave the lab up when something failed")
    arguments = parser.parse_args()
    seed = arguments.seed if arguments.seed is not None else random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}", flush=True)
    began = time.monotonic()
    passed = failed = 0
    with Site(arguments.build, f"kill-{os.getpid()}") as site:
        test = Test(site, random.Random(seed))
        test.start()
        test.run(arguments.kills)
        print("killed: " + ", ".join(f"{name} {count}" for name, count in test.kills.items()), flush=True)
        test.settle()
        for what, against in test.results():
            print(f"{'ok    ' if not against else 'FAILED'} {what}" + (f": {against}" if against else ""), flush=True)
            passed, failed = passed + (not against), failed + bool(against)
        total = sum(test.kills.values())
        passed, failed = passed + (total == arguments.kills), failed + (total != arguments.kills)
        if failed:
            print("".join(line for line in site.plane_words().splitlines(True) 
                          if " error " in line and "a service changed" not in line)[-3000:], flush=True)
        if failed and arguments.keep:
            print(f"logs: {site.folder}, {site.state}/log", flush=True)
            sys.stdin.read()
    print(f"{time.monotonic() - began:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
