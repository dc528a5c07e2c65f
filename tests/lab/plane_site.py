"""A lab with a control plane and nodes, for the tests that kill and attack it: what starts them, what is found of them."""

import json
import os
import pathlib
import shutil
import signal
import sqlite3
import subprocess
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LAB = ROOT / "lab/lab"
STATE = pathlib.Path(os.environ.get("LAB_STATE", "/run/gridnode-lab"))
SITE_CONF = """[node]
name = {name}
[wan]
interface = eth0
address = none
dns = 198.51.100.53;203.0.113.53
[monitor]
interval = 5
"""


class Failed(Exception):
    """What was to come true did not."""


def expect(condition, *facts):
    if not condition:
        raise AssertionError("\n".join(map(str, facts)))


def wait_for(what, look, seconds, pause=0.1):
    """What `look` gives, once it is something."""
    end = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > end:
            raise Failed(f"after {seconds} s still not: {what}")
        time.sleep(pause)


def children(pid):
    try:
        return [int(word) for word in pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def program_of(pid):
    """The name of the program that a process runs; '' when it is gone, or a zombie."""
    try:
        return os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
    except OSError:
        return ""


def works_in(pid, folders):
    """Whether one of them is the process's working folder: by itself, since in another mount namespace its path may differ."""
    try:
        here = os.stat(f"/proc/{pid}/cwd")
        return any(os.path.samestat(here, os.stat(folder)) for folder in folders)
    except OSError:
        return False


def words_of(pid):
    """Its command line."""
    try:
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def query(path, text, *values):
    """Rows of a database that its owner goes on writing to."""
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10)
    try:
        return connection.execute(text, values).fetchall()
    finally:
        connection.close()


class Node:
    """A node's root folder, its identity, and its daemon while it runs."""

    def __init__(self, site, name, root):
        self.site, self.name, self.root = site, name, root
        self.id = None
        self.log = site.folder / f"{name}.log"
        self.process = None

    @property
    def state(self):
        return self.root / "var/lib/gridnode"

    @property
    def database(self):
        return self.state / "state.db"

    @property
    def certificate(self):
        return self.state / "node.crt"

    @property
    def key(self):
        return self.state / "node.key"

    def register(self, organisation=None):
        token = self.site.folder / f"{self.name}.token"
        words = ["node", "create", self.name, "--site", "leeds", "--output", token]
        if organisation:
            words += ["--org", organisation]
        self.site.plane(*words)
        self.site.node("register", "https://repo.grid.example", "--token-file", token, "--root-ca",
                       self.site.state / "node/grid-root.pem", "--root", self.root)
        self.id = json.loads((self.state / "identity.json").read_text())["node"]
        return self

    def start(self, *environment):
        """In the background; its words go to its log."""
        with open(self.log, "a", encoding="utf-8") as log:
            self.process = self.site.start("node", "env", *environment, self.site.gridnode, "run", "--root", self.root, log=log)

    def stop(self):
        return stop(self.process)

    def words(self):
        return self.log.read_text(errors="replace") if self.log.exists() else ""

    def items(self):
        """What the node itself says that it told: rows of its store."""
        return query(self.database, "SELECT seq, kind, payload, waiting FROM item ORDER BY seq")

    def waiting(self):
        return query(self.database, "SELECT count(*) FROM item WHERE waiting = 1")[0][0]

    def epoch(self):
        return query(self.database, "SELECT value FROM value WHERE name = 'epoch'")[0][0]


def stop(process, seconds=15):
    """Asks it to end; its exit status."""
    if process is None:
        return None
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(seconds)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
    return process.returncode


class Site:
    """One lab. Use as a context: it leaves nothing behind."""

    def __init__(self, build, name):
        self.build, self.name = pathlib.Path(build).resolve(), name
        self.environment = dict(os.environ, LAB_BUILD=str(self.build / "lab"), LAB_NAME=name)
        self.gridnode, self.gridplane = self.build / "src/cli/gridnode", self.build / "src/cli/gridplane"
        self.state = STATE / name
        self.plane_root = self.state / "plane"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix=f"{name}-"))
        self.nodes, self.processes = [], []

    def __enter__(self):
        self.lab("up", "--plane")
        return self

    def __exit__(self, *_):
        for process in self.processes:
            if process.poll() is None:
                process.kill()
                process.wait()
        subprocess.run([LAB, "down"], env=self.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def lab(self, *words):
        done = subprocess.run([LAB, *map(str, words)], env=self.environment, text=True, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False)
        if done.returncode:
            raise Failed(f"lab {' '.join(words)} ended with {done.returncode}:\n{done.stdout}")

    def run(self, role, *words, accept=(0,), timeout=60, stdin=None):
        """The output of a program in a namespace; `accept` None: any exit status."""
        done = subprocess.run([LAB, "exec", role, *map(str, words)], env=self.environment, text=True, errors="replace",
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=timeout, check=False,
                              **({"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}))
        if accept is not None and done.returncode not in accept:
            raise Failed(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def start(self, role, *words, log=subprocess.DEVNULL, **options):
        process = subprocess.Popen([LAB, "exec", role, *map(str, words)], env=self.environment, stdin=subprocess.DEVNULL,
                                   stdout=log, stderr=subprocess.STDOUT, start_new_session=True, **options)
        self.processes.append(process)
        return process

    def plane(self, *words, **options):
        return self.run("inet", self.gridplane, *words, "--root", self.plane_root, **options)

    def node(self, *words, **options):
        return self.run("node", self.gridnode, *words, **options)

    def new_node(self, name, **options):
        """Registered, not started. The first one has the lab's own site file, with its LAN."""
        root = self.state / "node/root" if not self.nodes else self.folder / f"{name}-root"
        site = root / "etc/gridnode/site.conf"
        if not site.exists():
            site.parent.mkdir(parents=True)
            site.write_text(SITE_CONF.format(name=name))
        elif "[monitor]" not in site.read_text():
            site.write_text(site.read_text() + "\n[monitor]\ninterval = 5\n")
        node = Node(self, name, root)
        self.nodes.append(node)
        return node.register(**options)

    # --- the plane ---

    @property
    def plane_pid(self):
        return int((self.state / "pids/plane.pid").read_text())

    @property
    def plane_log(self):
        return self.state / "log/plane.log"

    def plane_words(self):
        return self.plane_log.read_text(errors="replace")

    def start_plane(self, *environment):
        """Another one, after the lab's own was killed."""
        with open(self.plane_log, "a", encoding="utf-8") as log:
            process = self.start("inet", "env", *environment, self.gridplane, "serve", "--root", self.plane_root, "--domain",
                                 "grid.example", log=log)
        (self.state / "pids/plane.pid").write_text(f"{process.pid}\n")
        return process

    def stop_plane(self, signal_number=signal.SIGTERM):
        """The lab's own is no child of ours: it is waited for by its number."""
        pid = self.plane_pid
        os.kill(pid, signal_number)
        for process in self.processes:
            if process.pid == pid:
                process.wait(20)
                return
        wait_for("the control plane has ended", lambda: not program_of(pid), 20, 0.02)

    def plane_rows(self, text, *values):
        return query(self.plane_root / "var/lib/gridplane/plane.db", text, *values)

    def is_connected(self, node):
        return bool(self.plane_rows("SELECT 1 FROM nodes WHERE id = ? AND connected = 1", node.id))

    def touch_route(self):
        """A route comes and goes on the node: its daemons hear of it, and those that are not connected try at once."""
        for word in ("replace", "del"):
            subprocess.run(["ip", "-n", f"gl-{self.name}-node", "route", word, "blackhole", "192.0.2.254/32"],
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)


# --- nothing lost, nothing twice ---

def compare(site, node):
    """What is wrong with what the plane has of a node, held against the node's own store: texts, and how many it has."""
    items, epoch = node.items(), node.epoch()
    last = query(node.database, "SELECT seq FROM sqlite_sequence WHERE name = 'item'")
    last = last[0][0] if last else 0
    rows = site.plane_rows(
        "SELECT seq, id, 'event', name, message, generated FROM events WHERE node = ?1 AND epoch = ?2 UNION ALL "
        "SELECT seq, id, 'report', trigger, summary, generated FROM reports WHERE node = ?1 AND epoch = ?2 ORDER BY 1",
        node.id, epoch)
    wrong = []
    seqs = [row[0] for row in rows]
    if len(set(seqs)) != len(seqs):
        wrong.append(f"{len(seqs) - len(set(seqs))} numbers are there twice")
    lost = sorted(set(range(1, last + 1)) - set(seqs))
    if lost:
        wrong.append(f"{len(lost)} of {last} are lost: {lost[:20]}")
    if seqs and seqs[-1] > last:
        wrong.append(f"the plane has number {seqs[-1]}, and the node has given out {last}")
    other = site.plane_rows("SELECT DISTINCT epoch FROM events WHERE node = ? AND epoch NOT IN (?, 'plane')", node.id, epoch)
    if other:
        wrong.append(f"the plane has events of the epochs {other}, and the node's is {epoch}")
    wrong += compare_contents(items, {row[0]: row[2:] for row in rows})
    for kind in ("event", "report"):
        of_kind = sorted((row[1], row[0]) for row in rows if row[2] == kind)
        late = [seq for (_, before), (_, seq) in zip(of_kind, of_kind[1:]) if seq < before]
        if late:
            wrong.append(f"{len(late)} {kind}s were stored after later ones: {late[:20]}")
    return wrong, len(seqs)


def compare_contents(items, rows):
    for seq, kind, payload, _ in items:
        told, row = json.loads(payload), rows.get(seq)
        if row is None:
            continue  # lost, and said so
        mine = (("report", told["trigger"], told["report"].get("summary")) if kind == 1
                else ("event", told["name"], told["message"]))
        if mine != row[:3]:
            yield f"number {seq} is {mine} on the node, and {row[:3]} at the plane"


def sanitizer_words(text):
    return [line for line in text.splitlines() if "Sanitizer" in line or "runtime error" in line]
