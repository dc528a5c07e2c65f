"""What the benchmarks of node and control plane share: processes, and the API on this machine's own socket."""
import collections
import http.client
import json
import os
import socket
import sys
import time
from pathlib import Path

TICK_S = 1 / os.sysconf("SC_CLK_TCK")


def say(text):
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def wait_for(what, look, seconds, step_s=0.2):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = look()
        if found:
            return found
        time.sleep(step_s)
    raise SystemExit(f"bench: after {seconds} s still not: {what}")


def percentile(values, percent):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * percent / 100))]


# --- processes -----------------------------------------------------------------------------------------------------------

def processes():
    """pid -> (name, parent, CPU seconds, those of its children that are gone)."""
    found = {}
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            text = (entry / "stat").read_text()
        except OSError:
            continue
        name, fields = text[text.index("(") + 1:text.rindex(")")], text[text.rindex(")") + 2:].split()
        found[int(entry.name)] = (name, int(fields[1]), (int(fields[11]) + int(fields[12])) * TICK_S,
                             (int(fields[13]) + int(fields[14])) * TICK_S)
    return found


def family(root):
    """The process and its children, theirs too: name -> [pid]."""
    alive, names, parents = processes(), collections.defaultdict(list), {root}
    while parents:
        for pid in parents:
            if pid in alive:
                names[alive[pid][0]].append(pid)
        parents = {pid for pid, (_, parent, *_) in alive.items() if parent in parents}
    return names


def rss_mib(pid):
    text = Path(f"/proc/{pid}/status").read_text()
    return int(text.split("VmRSS:")[1].split()[0]) / 1024


def cpu_s(pids, with_children=False):
    alive = processes()
    return sum(alive[pid][2] + (alive[pid][3] if with_children else 0) for pid in pids if pid in alive)


# --- the API on this machine's own socket --------------------------------------------------------------------------------

class Connection(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("localhost")
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(60)
        self.sock.connect(self.path)


class Api:
    def __init__(self, root):
        self.path = root / "run/gridplane/admin.sock"

    def ask(self, method, path, body=None):
        connection = Connection(self.path)
        connection.request(method, path, None if body is None else json.dumps(body),
                           {} if body is None else {"Content-Type": "application/json"})
        answer = connection.getresponse()
        text = answer.read()
        connection.close()
        if answer.status >= 400:
            raise SystemExit(f"bench: {method} {path}: {answer.status} {text[:300]}")
        return json.loads(text) if text else None

    def stream(self, path):
        """(name, data) of each server-sent event, as it comes."""
        connection = Connection(self.path)
        connection.request("GET", path)
        answer, name = connection.getresponse(), None
        while line := answer.readline():
            line = line.decode().rstrip("\n")
            if line.startswith("event:"):
                name = line[6:].strip()
            elif line.startswith("data:"):
                yield name, json.loads(line[5:])
        connection.close()
