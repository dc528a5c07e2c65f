"""A lab with a control plane and nodes, how they are driven, and how results are counted."""

import contextlib
import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

ROOT = pathlib.Path(__file__).resolve().parents[3]
STATE = pathlib.Path(os.environ.get("LAB_STATE", "/run/gridnode-lab"))
sys.path.insert(0, str(ROOT / "tests" / "unit" / "plane"))

import yaml  # noqa: E402

from check_answers import Description  # noqa: E402

URL = "https://repo.grid.example"
CONTROL = ["198.51.100.21", "203.0.113.201"]
DAY_S = 86400


class Stop(Exception):
    """What follows in this scenario stands on what failed."""


def expect(condition, *facts):
    if not condition:
        raise AssertionError("\n".join(map(str, facts)))


def wait_for(what, look, seconds=20, pause=0.2):
    """What `look` gives, once it is something."""
    end, last = time.monotonic() + seconds, None
    while True:
        try:
            found = look()
            if found:
                return found
            last = found
        except (AssertionError, OSError, json.JSONDecodeError, KeyError, IndexError) as error:
            last = error
        if time.monotonic() > end:
            raise AssertionError(f"{what}: not within {seconds} s (last: {last!r})")
        time.sleep(pause)


# ---- results ----

class Tally:
    def __init__(self, verbose):
        self.lock, self.passed, self.failed = threading.Lock(), 0, 0
        self.verbose, self.began = verbose, time.monotonic()

    def add(self, name, error=None):
        with self.lock:
            if error is None:
                self.passed += 1
                if self.verbose:
                    print(f"{time.monotonic() - self.began:6.1f} ok {name}", flush=True)
            else:
                self.failed += 1
                print(f"FAILED {name}\n{error}", flush=True)

    def note(self, text):
        with self.lock:
            if self.verbose:
                print(f"       {text}", flush=True)


class Scenario:
    """Steps in one world, counted one by one."""

    def __init__(self, name, tally, build):
        self.name, self.tally, self.build = name, tally, build

    @contextlib.contextmanager
    def step(self, text, needed=False):
        name = f"{self.name}: {text}"
        try:
            yield
        except Stop:
            raise
        except Exception as error:  # whatever it is, the others go on
            where = traceback.extract_tb(error.__traceback__)
            lines = ", ".join(f"{pathlib.Path(f.filename).name}:{f.lineno}" for f in where[-3:])
            self.tally.add(name, f"{type(error).__name__} at {lines}: {error}")
            if needed:
                raise Stop() from error
        else:
            self.tally.add(name)


# ---- commands ----

class Result:
    def __init__(self, words, status, out, err):
        self.words, self.status, self.out, self.err = words, status, out, err

    def __str__(self):
        return f"{self.words} ended with {self.status}\n--- stdout\n{self.out}--- stderr\n{self.err}---"

    @property
    def json(self):
        return json.loads(self.out)

    def says(self, *texts):
        for text in texts:
            expect(text in self.out + self.err, f"'{text}' must be said", self)
        return self


class Node:
    """One node: its root folder and its daemon. Several may live in the lab's namespace of the node."""

    def __init__(self, world, name, root, lan=True):
        self.world, self.name, self.root, self.daemon, self.log = world, name, pathlib.Path(root), None, None
        self.state = self.root / "var/lib/gridnode"
        if not root.exists():
            (self.root / "etc/gridnode").mkdir(parents=True)
            text = (world.state / "node/root/etc/gridnode/site.conf").read_text()
            self.site.write_text(text if lan else text[:text.index("[lan ")])

    @property
    def site(self):
        return self.root / "etc/gridnode/site.conf"

    def monitor_every(self, seconds):
        with open(self.site, "a", encoding="utf-8") as file:
            file.write(f"\n[monitor]\ninterval = {seconds}\n")

    def run(self, *words, accept=(0,), shift=0, timeout=60, stdin=None):
        return self.world.run("node", self.world.gridnode, *words, "--root", self.root, accept=accept, shift=shift,
                              timeout=timeout, stdin=stdin)

    def register(self, token, *words, **options):
        return self.run("register", URL, "--token-file", token, *(words or ("--root-ca", self.world.root_ca)), **options)

    def enrol(self, site="leeds"):
        token = self.world.folder / f"token-{self.name}"
        self.world.plane("node", "create", self.name, "--site", site, "--output", token)
        self.register(token)
        self.id = json.loads((self.state / "identity.json").read_text())["node"]

    def start(self, shift=0):
        self.log = self.world.folder / f"{self.name}.log"
        self.daemon = self.world.start("node", self.world.gridnode, "run", "--root", self.root, log=self.log, shift=shift)

    def stop(self, number=signal.SIGTERM, seconds=15):
        self.daemon.send_signal(number)
        return self.daemon.wait(seconds)

    def status(self):
        return self.run("status", "--json").json

    def is_connected(self):
        return self.status()["control"]["state"] == "connected"

    def all_ways_open(self):
        status = self.status()
        return status["control"]["state"] == "connected" and status["dns"]["state"] == "ok" \
            and all(service["state"] == "ok" for service in status["services"])

    def service(self, name):
        return next(service for service in self.status()["services"] if service["name"] == name)

    def come_up(self, seconds=30):
        self.start()
        wait_for(f"the socket of {self.name}", lambda: (self.root / "run/gridnode/control.sock").exists(), seconds)
        wait_for(f"every way of {self.name} is open", self.all_ways_open, seconds)

    def events(self, *words):
        return list(reversed(self.world.plane("event", "list", "--json", "--node", self.name, *words).json["items"]))

    def last_words(self, lines=12):
        return "".join(self.log.read_text(errors="replace").splitlines(True)[-lines:]) if self.log else ""


class World:
    def __init__(self, scenario, letter):
        self.name, build = f"gk-{os.getpid()}-{letter}", scenario.build
        self.build = build
        self.scenario = scenario
        self.environment = dict(os.environ, LAB_BUILD=str(build / "lab"), LAB_NAME=self.name)
        self.gridnode, self.gridplane = build / "src/cli/gridnode", build / "src/cli/gridplane"
        self.clock = build / "lab/clock.so"
        self.state = STATE / self.name
        self.plane_root, self.root_ca = self.state / "plane", self.state / "node/grid-root.pem"
        self.database = self.plane_root / "var/lib/gridplane/plane.db"
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gridnode-system-"))
        self.children, self.answers = [], []

    def __enter__(self):
        try:
            self.lab("up", "--plane")
            self.node = Node(self, "branch-12", self.state / "node/root")
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for child in self.children:
            if child.poll() is None:
                child.terminate()
        for child in self.children:
            try:
                child.wait(10)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait()
        subprocess.run([ROOT / "lab/lab", "down"], env=self.environment, capture_output=True, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def lab(self, *words, accept=(0,)):
        done = subprocess.run([ROOT / "lab/lab", *map(str, words)], env=self.environment, text=True, stdin=subprocess.DEVNULL,
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        expect(done.returncode in accept, f"lab {' '.join(map(str, words))} ended with {done.returncode}:", done.stdout)
        return done.stdout

    def environment_of(self, shift):
        """A clock that is some seconds off, or by what stands in a file (a path) at that moment."""
        if not shift:
            return self.environment
        name = "LAB_CLOCK_FILE" if isinstance(shift, pathlib.Path) else "LAB_CLOCK_SHIFT"
        asan = os.environ.get("ASAN_OPTIONS", "")
        return dict(self.environment, LD_PRELOAD=str(self.clock), ASAN_OPTIONS=(asan + ":" if asan else "") + "verify_asan_link_order=0",
                    **{name: str(shift)})

    def command(self, role, *words):
        return ["/usr/bin/ip", "netns", "exec", f"gl-{self.name}-{role}", *map(str, words)]

    def run(self, role, *words, accept=(0,), shift=0, timeout=60, stdin=None):
        done = subprocess.run(self.command(role, *words), env=self.environment_of(shift), capture_output=True,
                              timeout=timeout, check=False, input=stdin.encode() if stdin is not None else b"")
        shown = " ".join([pathlib.Path(str(words[0])).name, *map(str, words[1:])])
        result = Result(shown, done.returncode, done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace"))
        expect(accept is None or done.returncode in accept, result)
        return result

    def start(self, role, *words, log=None, shift=0, **options):
        output = open(log, "a", encoding="utf-8") if log else subprocess.PIPE
        child = subprocess.Popen(self.command(role, *words), env=self.environment_of(shift), stdin=subprocess.DEVNULL,
                                 stdout=output, stderr=output if log else subprocess.PIPE, text=True, start_new_session=True,
                                 **options)
        self.children.append(child)
        return child

    def plane_words(self, *words):
        at = words.index("--") if "--" in words else len(words)
        return [self.gridplane, *words[:at], "--root", self.plane_root, *words[at:]]

    def plane(self, *words, **options):
        return self.run("inet", *self.plane_words(*words), **options)

    def another(self, name, lan=False):
        return Node(self, name, self.folder / f"root-{name}", lan)

    def nft(self, role, rules):
        self.run(role, "nft", "-f", "-", stdin=rules)

    def sql(self, text):
        return subprocess.run(["sqlite3", "-cmd", ".timeout 5000", self.database, text], check=True, capture_output=True,
                              text=True).stdout

    # ---- the plane's process ----

    @property
    def plane_log(self):
        return self.state / "log/plane.log"

    def plane_pid(self):
        return int((self.state / "pids/plane.pid").read_text())

    def plane_children(self):
        """Pairs of pid and name."""
        found = subprocess.run(["ps", "--ppid", str(self.plane_pid()), "-o", "pid=,comm="], capture_output=True, text=True,
                               check=False).stdout.split()
        return [(int(pid), name) for pid, name in zip(found[::2], found[1::2])]

    def kill_child(self, name, number=signal.SIGKILL):
        for pid in [pid for pid, comm in self.plane_children() if comm == name]:
            os.kill(pid, number)

    def kill_plane(self, number=signal.SIGTERM):
        pid = self.plane_pid()
        os.kill(pid, number)
        wait_for("the control plane ends", lambda: not is_alive(pid), 20)

    def start_plane(self, shift=0):
        self.plane_log.unlink(missing_ok=True)
        child = self.start("inet", self.gridplane, "serve", "--root", self.plane_root, "--domain", "grid.example",
                           log=self.plane_log, shift=shift)
        (self.state / "pids/plane.pid").write_text(f"{child.pid}\n")
        wait_for("the control plane is ready", lambda: "the control plane is ready" in self.plane_log.read_text(), 40)
        return child

    # ---- HTTPS ----

    def http(self, method, path, body=None, headers=(), role="lan", port=443, timeout=30):
        """Over the wire, as programs do; each answer is held against the description."""
        words = ["curl", "-sS", "-i", "--http1.1", "-X", method, "--cacert", self.root_ca, "-H", "Expect:",
                 "--resolve", f"repo.grid.example:{port}:198.51.100.20", "--max-time", timeout]
        for header in headers:
            words += ["-H", header]
        if body is not None:
            words += ["-H", "Content-Type: application/json", "--data-binary", body if isinstance(body, str) else json.dumps(body)]
        done = self.run(role, *words, f"https://repo.grid.example:{port}{path}", timeout=timeout + 5)
        head, _, text = done.out.replace("\r\n", "\n").partition("\n\n")
        lines = head.splitlines()
        answer = Answer(method, path, int(lines[0].split()[1]),
                        dict((name.lower(), value) for name, _, value in (line.partition(": ") for line in lines[1:])), text)
        self.answers.append(answer)
        return answer

    def check_answers(self):
        with open(ROOT / "docs/openapi.yaml", encoding="utf-8") as file:
            description = Description(yaml.load(file, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader)))
        wrong = {f"{a.method} {a.path} {a.status}: {problem}" for a in self.answers for problem in description.problems(vars(a))}
        expect(not wrong, *sorted(wrong))
        return len(self.answers)


class Answer:
    def __init__(self, method, path, status, headers, body):
        self.method, self.path, self.status, self.headers, self.body = method, path, status, headers, body

    def __str__(self):
        return f"{self.method} {self.path}: {self.status} {self.body[:600]}"

    @property
    def json(self):
        return json.loads(self.body)

    def is_status(self, *wanted):
        expect(self.status in wanted, f"status must be {wanted}", self)
        return self


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            return file.read().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
