"""The plane's database in another process's hands, and events that are followed while many come: under the traffic of a node
that sends as fast as it can (producer.c)."""

import http.client
import json
import signal
import socket
import sqlite3
import time

from .world import World, expect, wait_for

WAITING = 200  # of the producer: what it has not got acknowledged
LOCKED_S = 10
# On a machine that does nothing else each answer takes some milliseconds; 5000 were it when the loop waited for the lock.
MOST_MS, ALMOST_ALL_MS = 1000, 200


class Traffic:
    """A node that adds numbered events, and its own list of those it has stored."""

    def __init__(self, w):
        self.w, self.node, self.list = w, w.another("numbered"), w.folder / "numbers"
        self.node.enrol()
        self.process = None

    def start(self, waiting=WAITING):
        self.process = self.w.start("node", self.w.scenario.build / "tests/lab/producer", self.node.root, self.list,
                                    len(self.listed()) + 1, waiting, log=self.w.folder / "producer.log")

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def listed(self):
        return self.list.read_text().split() if self.list.exists() else []

    def stored(self, *tables):
        """The numbers that the plane has: a report now and then has one, too."""
        return self.w.sql(" UNION ALL ".join(f"SELECT seq FROM {table} WHERE node = '{self.node.id}' AND epoch <> 'plane'"
                                             for table in tables or ("events", "reports"))).split()


class Api:
    """The API at its Unix socket, and how long each answer took."""

    def __init__(self, w):
        self.path, self.took_ms = str(w.plane_root / "run/gridplane/admin.sock"), []

    def ask(self, method, path, body=None):
        began = time.monotonic()
        connection = http.client.HTTPConnection("localhost", timeout=20)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.settimeout(20)
        connection.sock.connect(self.path)
        connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"} if body else {})
        answer = connection.getresponse()
        text = answer.read()
        self.took_ms.append((time.monotonic() - began) * 1000)
        connection.close()
        return answer, json.loads(text)


def held(s):
    with World(s, "held") as w:
        node, traffic, api = w.node, Traffic(w), Api(w)
        node.enrol()
        node.come_up()
        traffic.start()
        wait_for("events come", lambda: len(traffic.stored()) > 200)
        follower = Follower(w, "locked")
        holder = sqlite3.connect(w.database, isolation_level=None, timeout=5)
        with s.step("another process has the database for 10 s: reading and health go on, changes are refused, all at once"):
            holder.execute("BEGIN IMMEDIATE")
            refuse_changes(w, api)
            holder.execute("ROLLBACK")
            slow = sorted(api.took_ms)
            s.tally.note(f"{len(slow)} answers while locked: half within {slow[len(slow) // 2]:.0f} ms, "
                         f"90 % within {slow[len(slow) * 9 // 10]:.0f} ms, the slowest {slow[-1]:.0f} ms")
            expect(slow[-1] < MOST_MS and slow[len(slow) * 9 // 10] < ALMOST_ALL_MS, slow)
        with s.step("then changes are taken, and the log says once when it began and when it ended"):
            answer, _ = api.ask("POST", "/api/v1/nodes", {"name": "late"})
            expect(answer.status == 201, answer.status)
            for words in ("the database is locked by another process", "the database is not locked any more"):
                wait_for(words, lambda text=words: text in w.plane_log.read_text(), 5)
                expect(w.plane_log.read_text().count(words) == 1, w.plane_log.read_text()[-3000:])
        with s.step("a node that went and came meanwhile did both"):
            names = wait_for("both", lambda: [e["name"] for e in reversed(w.plane("event", "list", "--node", node.name, "--json")
                                                                          .json["items"]) if ".plane." in e["id"]][-3:])
            expect(names == ["Node Connect", "Node Disconnect", "Node Connect"], names)
        with s.step("nothing is lost, nothing is there twice, and the stream told of each once"):
            traffic.stop()
            traffic.start(waiting=0)
            numbers = traffic.listed()
            wait_for("all of them", lambda: set(traffic.stored()) >= set(numbers), 60)
            stored = traffic.stored()
            expect(len(stored) == len(set(stored)), "twice", len(stored) - len(set(stored)))
            wait_for("the stream has them", lambda: follower.has(traffic.node, traffic.stored("events")), 20)
            follower.end()


def refuse_changes(w, api):
    end, restarted = time.monotonic() + LOCKED_S, False
    while time.monotonic() < end:
        for path in ("/api/v1/health", "/api/v1/nodes", "/api/v1/events?limit=5"):
            answer, _ = api.ask("GET", path)
            expect(answer.status == 200, path, answer.status)
        answer, problem = api.ask("POST", "/api/v1/nodes", {"name": "late"})
        expect(answer.status == 503 and problem["code"] == "database.locked" and int(answer.headers["Retry-After"]) > 0
               and "locked by another process" in problem["detail"], answer.status, problem)
        w.plane("node", "create", "late", accept=(69,)).says("locked by another process")
        if not restarted:
            w.node.stop()
            w.node.start()
            restarted = True
        time.sleep(0.1)
    expect(w.node.is_connected(), w.node.status()["control"])


class Follower:
    """gridplane event list --follow."""

    def __init__(self, w, name, *words):
        self.path = w.folder / f"follow-{name}"
        self.process = w.start("inet", *w.plane_words("event", "list", "--follow", "--json", *words), log=self.path)

    def events(self):
        return [json.loads(line) for line in self.path.read_text().splitlines(True) if line.startswith("{") and line.endswith("\n")]

    def has(self, node, numbers):
        got = [e["id"].rpartition(".")[2] for e in self.events() if e["node"] == node.id and ".plane." not in e["id"]]
        expect(len(got) == len(set(got)), "twice", len(got) - len(set(got)))
        return set(got) >= set(numbers)

    def end(self):
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(10)


def followed(s):
    with World(s, "foll") as w:
        traffic = Traffic(w)
        traffic.start(waiting=2000)
        wait_for("a list of several pages", lambda: len(traffic.stored()) > 2000, 60)
        with s.step("who follows while hundreds come each second gets each of them once, list and stream together"):
            for turn in range(5):
                follower = Follower(w, turn)
                wait_for("the list is there", follower.events, 20)
                time.sleep(1)
                numbers = traffic.stored("events")
                wait_for(f"all {len(numbers)} in turn {turn}", lambda: follower.has(traffic.node, numbers), 20)
                follower.end()
        with s.step("a filter holds for both"):
            w.node.enrol()
            w.node.come_up()
            follower = Follower(w, "filtered", "--name", "Node Connect")
            wait_for("the list", follower.events, 20)
            w.node.stop()
            w.node.come_up()
            events = wait_for("the next", lambda: follower.events()[1:] and follower.events(), 20)
            expect([e["name"] for e in events] == ["Node Connect"] * 2, events)
            follower.end()
        with s.step("without a control plane it says so"):
            w.kill_plane()
            w.plane("event", "list", "--follow", accept=(69,)).says("gridplane serve")


SCENARIOS = [held, followed]
