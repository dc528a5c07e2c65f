"""Thousands of simulated nodes (swarm.c) at one control plane: the part `swarm` of bench/system."""
import collections
import os
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import threading
import time
from pathlib import Path

from machine import cpu_s, family, percentile, rss_mib, say, wait_for

SWARM_PROCESSES = 2  # each connection takes four descriptors, and a process may have 20,000


class Swarm:
    """Processes of simulated nodes, and what they say."""

    def __init__(self, build, namespace, folder, count):
        self.count, self.records, self.is_connected = count, [], set()
        self.ready = self.events = self.acknowledged = 0
        self.processes, self.threads = [], []
        self.lock = threading.Lock()
        for i in range(SWARM_PROCESSES):
            first = count * i // SWARM_PROCESSES
            process = subprocess.Popen(
                ["ip", "netns", "exec", namespace, build / "bench/swarm", folder, str(first),
                 str(count * (i + 1) // SWARM_PROCESSES - first)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
            self.processes.append(process)
            thread = threading.Thread(target=self.read, args=(process,), daemon=True)
            thread.start()
            self.threads.append(thread)

    def read(self, process):
        for line in process.stdout:
            words = line.decode().split()
            record = (float(words[0]) / 1000, words[1], *words[2:])
            with self.lock:
                self.take(record)

    def take(self, record):
        kind = record[1]
        if kind == "r":
            self.ready += 1
        elif kind == "c":
            self.is_connected.add(record[2])
        elif kind == "l":
            self.is_connected.discard(record[2])
        elif kind == "e":
            self.events += 1
        elif kind == "k":
            self.acknowledged += 1
        self.records.append(record)

    def tell(self, text):
        for process in self.processes:
            process.stdin.write(f"{text}\n".encode())
            process.stdin.flush()

    def since(self, begun, kinds):
        with self.lock:
            return [record for record in self.records if record[0] >= begun and record[1] in kinds]

    def end(self):
        for process in self.processes:
            if process.poll() is None:
                process.stdin.close()
        for process in self.processes:
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def by_second(records, begun, kind):
    """How many of a kind in each second since `begun`."""
    seconds = collections.Counter(int(record[0] - begun) for record in records if record[1] == kind)
    return [seconds[i] for i in range(max(seconds, default=-1) + 1)]


class Plane:
    """gridplane serve in a namespace of its own, with nodes that are registered already."""

    def __init__(self, bench, build, count):
        self.bench, self.build, self.count = bench, build, count
        self.namespace = f"{bench.name}-plane"
        self.folder = Path(tempfile.mkdtemp(prefix=f"{bench.name}-plane-"))
        self.root, self.keys = self.folder / "root", self.folder / "keys"
        self.serve = self.swarm = None

    def up(self):
        begun = time.monotonic()
        subprocess.run([self.build / "bench/swarm-register", self.root, self.keys, str(self.count)], check=True)
        say(f"{self.count} nodes registered in {time.monotonic() - begun:.1f} s")
        subprocess.run(["ip", "netns", "add", self.namespace], check=True)
        subprocess.run(["ip", "-n", self.namespace, "link", "set", "lo", "up"], check=True)
        log = open(self.folder / "plane.log", "w", encoding="utf-8")
        self.serve = subprocess.Popen(
            ["ip", "netns", "exec", self.namespace, self.build / "src/cli/gridplane", "serve", "--root", self.root,
             "--domain", "grid.example", "--listen", "443,8443"], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        wait_for("the control plane is ready",
                 lambda: "the control plane is ready" in (self.folder / "plane.log").read_text(), 60)
        self.swarm = Swarm(self.build, self.namespace, self.keys, self.count)
        wait_for("the swarm is ready", lambda: self.swarm.ready == SWARM_PROCESSES, 60)

    def pids(self):
        names = family(self.serve.pid)
        return {name: names[name] for name in ("gridplane", "nginx", "mosquitto")}

    def query(self, sql):
        connection = sqlite3.connect(f"file:{self.root}/var/lib/gridplane/plane.db?mode=ro", uri=True, timeout=20)
        value = connection.execute(sql).fetchone()[0]
        connection.close()
        return value

    def online(self):
        return self.query("SELECT count(*) FROM nodes WHERE connected = 1")

    def usage(self, what, work):
        """Runs `work`; how much of a core each part and the swarm took meanwhile, and memory after it."""
        pids = self.pids()
        pids["swarm"] = [process.pid for process in self.swarm.processes]
        begun, before = time.monotonic(), {name: cpu_s(of) for name, of in pids.items()}
        value = work()
        took = time.monotonic() - begun
        after = {name: cpu_s(of) for name, of in pids.items()}
        now = self.pids()
        for name, of in pids.items():
            used = after[name] - before[name]
            if name in now and set(now[name]) != set(of):  # another process took the place of one that was killed
                used = cpu_s(now[name])
            self.bench.sample(f"{what}: CPU of {name}", 100 * used / took)
        for name, of in now.items():
            self.bench.sample(f"{what}: memory of {name}", sum(rss_mib(pid) for pid in of))
        cpu = ", ".join(f"{name} {self.bench.samples[f'{what}: CPU of {name}'][-1]:.0f} %" for name in pids)
        memory = ", ".join(f"{name} {self.bench.samples[f'{what}: memory of {name}'][-1]:.0f} MiB" for name in now)
        say(f"{what}: CPU {cpu}; memory {memory}")
        return value, f"CPU of one core: {cpu}; memory: {memory}"

    def down(self):
        if self.swarm:
            self.swarm.end()
        if self.serve and self.serve.poll() is None:
            self.serve.terminate()
            try:
                self.serve.wait(20)
            except subprocess.TimeoutExpired:
                for pids in family(self.serve.pid).values():
                    for pid in pids:
                        os.kill(pid, signal.SIGKILL)
                self.serve.wait()
        subprocess.run(["ip", "netns", "del", self.namespace], check=False, stderr=subprocess.DEVNULL)
        if os.environ.get("BENCH_KEEP"):
            say(f"kept: {self.folder}")
        else:
            shutil.rmtree(self.folder, ignore_errors=True)


def spread(records, begun):
    """What a herd would look like: attempts and connections by the second."""
    tries, connections = by_second(records, begun, "t"), by_second(records, begun, "c")
    failures = collections.Counter(record[3] for record in records if record[1] == "f")
    return tries, connections, failures


def report_wave(bench, key, records, begun):
    tries, connections, failures = spread(records, begun)
    bench.sample(f"{key}: attempts a second, peak", max(tries, default=0))
    bench.sample(f"{key}: connections a second, peak", max(connections, default=0))
    bench.samples[f"{key}: attempts by the second"] = tries
    bench.samples[f"{key}: connections by the second"] = connections
    bench.samples[f"{key}: failed attempts"] = dict(failures)
    say(f"{key}: attempts by the second {tries[:40]}, connected {connections[:40]}, failed {dict(failures)}")
    return tries, failures


def connect_all(plane, start_s):
    bench, swarm = plane.bench, plane.swarm
    begun = time.monotonic()

    def work():
        swarm.tell(f"start {start_s}")
        wait_for("all nodes are connected", lambda: len(swarm.is_connected) == plane.count, 240, 0.05)
        bench.sample("all connected", time.monotonic() - begun)
        wait_for("the plane knows of all", lambda: plane.online() == plane.count, 240, 0.5)
        bench.sample("all known", time.monotonic() - begun)

    _, note = plane.usage("connecting", work)
    tries, failures = report_wave(bench, "connecting", swarm.since(begun, "tcf"), begun)
    bench.row(f"{plane.count} nodes connect with mutual TLS", "s", "all connected",
              note=f"starts spread over {start_s} s; {sum(tries)} attempts, {sum(failures.values())} of them failed; the "
                   f"plane shows all of them after {bench.median('all known'):.0f} s; {note}")


def stay(plane, seconds):
    _, note = plane.usage("connected, idle", lambda: time.sleep(seconds))
    plane.bench.sample("broker memory of one", 1024 * plane.bench.median("connected, idle: memory of mosquitto") / plane.count)
    plane.bench.row("memory of the broker for each of them", "KiB", "broker memory of one", note=note)


def events(plane, rate, seconds):
    bench, swarm = plane.bench, plane.swarm
    count = "SELECT count(*) FROM events WHERE name = 'Repo Connectivity'"
    before, begun = plane.query(count), time.monotonic()

    def work():
        swarm.tell(f"events {rate / SWARM_PROCESSES} {seconds}")
        time.sleep(seconds)
        return wait_for("all events are acknowledged", lambda: swarm.events >= rate * seconds - SWARM_PROCESSES and
                        swarm.acknowledged == swarm.events, 120, 0.05)

    _, note = plane.usage(f"{rate} events/s", work)
    latencies = [float(record[3]) for record in swarm.since(begun, "k")]
    took = max(record[0] for record in swarm.since(begun, "k")) - begun
    stored, made = plane.query(count) - before, swarm.events
    bench.samples["acknowledgement p50"] = [round(percentile(latencies, 50), 2)]
    bench.samples["acknowledgement p99"] = [round(percentile(latencies, 99), 2)]
    bench.samples["acknowledgement, longest"] = [round(max(latencies), 2)]
    bench.sample("events stored", made / took)
    bench.sample("events lost or twice", abs(stored - made) + abs(len(latencies) - made))
    bench.row("events stored and acknowledged", "/s", "events stored", rate * 0.99, at_least=True,
              note=f"offered: {rate}/s for {seconds} s over all nodes, every other one with a diagnosis; {note}")
    bench.row("of them lost, or stored twice", "", "events lost or twice", 0,
              note=f"{made} made, {len(latencies)} acknowledged, {stored} in the database")
    bench.row("from an event's making to its acknowledgement, p50", "ms", "acknowledgement p50")
    bench.row("the same, p99", "ms", "acknowledgement p99", note=f"longest {max(latencies):.0f} ms")
    say(f"events: {made} made, {len(latencies)} acknowledged, {stored} stored, p99 {percentile(latencies, 99):.0f} ms")


def kill_broker(plane, wait_s):
    bench, swarm = plane.bench, plane.swarm
    gone = "SELECT count(*) FROM events WHERE name IN ('Node Disconnect', 'Connection Flapping')"
    before, begun = plane.query(gone), time.monotonic()

    def work():
        os.kill(plane.pids()["mosquitto"][0], signal.SIGKILL)
        wait_for("the connections are lost", lambda: len(swarm.since(begun, "l")) >= plane.count, 30, 0.05)
        wait_for("all nodes are connected again", lambda: len(swarm.is_connected) == plane.count, 240, 0.05)
        bench.sample("all reconnected", time.monotonic() - begun)

    _, note = plane.usage("reconnecting", work)
    records = swarm.since(begun, "tcf")
    tries, failures = report_wave(bench, "reconnecting", records, begun)
    half = sorted(record[0] for record in records if record[1] == "c")[plane.count // 2] - begun
    say(f"all reconnected after {bench.median('all reconnected'):.1f} s; waiting for what the plane makes of it")
    time.sleep(wait_s)
    bench.sample("false disconnects", plane.query(gone) - before)
    bench.sample("not online", plane.count - plane.online())
    bench.row("all reconnected after kill -9 of the broker", "s", "all reconnected", 120,
              note=f"half of them after {half:.1f} s; {sum(tries)} attempts, {sum(failures.values())} of them failed "
                   f"({', '.join(f'{n} {code}' for code, n in failures.items()) or 'none'}); {note}")
    bench.row("attempts in the busiest second of that", "/s", "reconnecting: attempts a second, peak", plane.count / 5,
              note="by the second: " + " ".join(map(str, tries[:60])))
    bench.row("connections in the busiest second of that", "/s", "reconnecting: connections a second, peak",
              note="by the second: " + " ".join(map(str, bench.samples["reconnecting: connections by the second"][:60])))
    bench.row("Node Disconnect and Flapping told of nodes that came back", "", "false disconnects", 0,
              note=f"{wait_s} s later; the plane misses {bench.median('not online'):.0f} nodes")


def measure(bench, build, options):
    plane = Plane(bench, build, options.nodes)
    try:
        plane.up()
        connect_all(plane, options.start)
        time.sleep(10)
        stay(plane, 10 if options.quick else 60)
        events(plane, 500, 10 if options.quick else 60)
        time.sleep(5)
        kill_broker(plane, 100)
    finally:
        plane.down()
