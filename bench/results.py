"""Where the figures of the benchmarks go: results.json, by part, and RESULTS.md, where bench/bench writes what comes before
the line SYSTEM and bench/system what follows it."""
import json
import os
import re
import statistics
import subprocess
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
TREE = HERE.parent
SYSTEM = "# Measured: node and control plane"


class Bench:
    """Samples by name, and the rows that are made of them."""

    def __init__(self, name):
        self.name, self.rows, self.samples = name, [], {}

    def sample(self, key, value):
        self.samples.setdefault(key, []).append(round(value, 2))

    def median(self, key):
        return statistics.median(self.samples[key])

    def percentiles(self, key):
        ordered = sorted(self.samples[key])
        self.samples[f"{key} p99"] = [ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]]

    def row(self, figure, unit, key, target=None, at_least=False, worst=False, note=""):
        """A figure with its samples, and whether the median (with `worst`: the worst) meets the target."""
        values = self.samples[key]
        median = statistics.median(values)
        judged = (min(values) if at_least else max(values)) if worst else median
        met = None if target is None else (judged >= target if at_least else judged <= target)
        self.rows.append({"figure": figure, "unit": unit, "target": target, "target_is": "at least" if at_least
                          else "at most", "median": round(median, 2), "min": min(values), "max": max(values),
                          "runs": len(values), "judged": judged, "met": met, "note": note})

    def take_runs(self, runs):
        """The rows of several runs of a part as one: of each figure the median of what each run found."""
        self.samples = {f"{key}, run {i + 1}": values for i, run in enumerate(runs) for key, values in run.samples.items()}
        for rows in zip(*(run.rows for run in runs)):
            found, judged = [row["median"] for row in rows], statistics.median(row["judged"] for row in rows)
            target, at_least = rows[0]["target"], rows[0]["target_is"] == "at least"
            met = None if target is None else (judged >= target if at_least else judged <= target)
            self.rows.append(dict(rows[-1], median=round(statistics.median(found), 2), min=min(row["min"] for row in rows),
                                  max=max(row["max"] for row in rows), runs=sum(row["runs"] for row in rows), met=met,
                                  note=f"median of {len(rows)} runs of the part; the last: {rows[-1]['note']}"))

    def missed(self):
        return [row["figure"] for row in self.rows if row["met"] is False]


def number(value):
    return f"{value:.0f}" if abs(value) >= 100 or value == 0 else f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}"


def table(rows):
    lines = ["| figure | target | measured (median) | least – most | runs | met | remark |",
             "|---|---|---|---|---|---|---|"]
    for r in rows:
        target = "" if r["target"] is None else f"{'≥' if r['target_is'] == 'at least' else '≤'} {r['target']:g} {r['unit']}"
        met = {True: "yes", False: "**no**", None: ""}[r["met"]]
        lines.append(f"| {r['figure']} | {target} | {number(r['median'])} {r['unit']} | {number(r['min'])} – "
                     f"{number(r['max'])} | {r['runs']} | {met} | {r['note']} |")
    return "\n".join(lines)


def first_line(words):
    run = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
    return run.stdout.strip().splitlines()[0]


def revision():
    run = subprocess.run(["git", "-C", TREE, "describe", "--always", "--dirty"], stdout=subprocess.PIPE, text=True,
                         stderr=subprocess.DEVNULL, check=False)
    return run.stdout.strip() or "of no known revision"


def scheduling():
    names = {os.SCHED_OTHER: "normal", os.SCHED_FIFO: "real time", os.SCHED_RR: "real time"}
    name = names.get(os.sched_getscheduler(0), "other")
    return f"{name} priority, niceness {os.getpriority(os.PRIO_PROCESS, 0)}"


def about(quick, is_built_here):
    cpu = re.search(r"^model name\s*: (.*)$", Path("/proc/cpuinfo").read_text(), re.M)
    memory = int(re.search(r"MemTotal:\s+(\d+)", Path("/proc/meminfo").read_text()).group(1))
    release = re.search(r'^PRETTY_NAME="(.*)"$', Path("/etc/os-release").read_text(), re.M)
    return {"date": time.strftime("%Y-%m-%d", time.gmtime()), "quick": quick,
            "revision": revision() if is_built_here else "as it was in a build folder",
            "machine": f"{cpu.group(1) if cpu else os.uname().machine}, {os.cpu_count()} cores, "
                       f"{memory / 1048576:.1f} GiB, {release.group(1) if release else ''}, Linux {os.uname().release}",
            "versions": "; ".join([first_line(["mosquitto", "-h"]), first_line(["nginx", "-v"]),
                                   first_line(["openssl", "version"])]),
            "scheduling": scheduling(), "load_before": round(os.getloadavg()[0], 2)}


PARTS = {
    "diagnosis": ("A diagnosis at the plane", """The lab with a control plane and one registered node. A watcher sees the
daemon's children end, every 3 ms; what counts is the time from the end of the second failed probe until a client of
`/api/v1/events/stream` has the event with its diagnosis."""),
    "idle": ("An idle node", """The same lab, probes every minute as in a product. CPU time is that of the daemon and the
helper and of all children that have ended (`/proc/PID/stat`); memory is `VmRSS`, so libraries count in both."""),
    "command": ("A command", """From the start of `POST /api/v1/nodes/NAME/requests` to the first `line` of its stream,
over `admin.sock`; the tool is `route`, which asks the kernel only: what is measured is the way there and back, and the
start of a process on the node."""),
    "swarm": ("Thousands of nodes", """`gridplane serve` with its nginx and mosquitto in a network namespace, and nodes
simulated by `bench/swarm` in two processes on the same machine: each node has its own key and certificate (registered
beforehand by `swarm-register`, straight into the plane's database), its own TLS connection through nginx on 8443, its
own topics, will and status, and the node's own control channel (`src/node/channel.c`: backoff, window, repetition). Not
simulated: probes, tools, a database of each node's own, the TLS context, which a node makes anew for each attempt, and
the way: everything is on loopback. The swarm's CPU time comes from the same cores as the plane's."""),
    "transfer": ("Transfers", """`bench/transfer`: two network namespaces of their own, with real nginx (HTTP/2, TLS 1.3, mutual) on one
side; `gridnode fetch` and curl by turns in one run, the same file, the same certificates, the same server, onto the same disk (fetch
has what it wrote fsynced, curl does not). A cut is an RST by a relay. 50 ms and 100 Mbit/s are made by the lab's wire. apt is
Debian's, its own method and ours by turns, the same repository of one package."""),
}


def section(part, result):
    title, text = PARTS[part]
    return (f"## {title}\n\n{text}\n\n{result['date']}, gridnode {result['revision']}, {result['scheduling']}, load before "
            f"{result['load_before']}{', fewer runs than usual' if result['quick'] else ''}; took {result['took_s']} s.\n\n"
            f"{table(result['rows'])}\n")


def load(out):
    try:
        known = json.loads((out / "results.json").read_text())
    except (OSError, ValueError):
        return {}
    return {"diag": known} if "rows" in known else known


def write(out, known, head, tail):
    out.mkdir(parents=True, exist_ok=True)
    (out / "results.json").write_text(json.dumps(known, indent=1) + "\n")
    (out / "RESULTS.md").write_text("\n\n".join(text for text in (head.strip(), tail.strip()) if text) + "\n")


def halves(out):
    """What RESULTS.md says before and from the line SYSTEM."""
    try:
        text = (out / "RESULTS.md").read_text()
    except OSError:
        return "", ""
    head, mark, tail = text.partition(SYSTEM)
    return head, mark + tail


def save_diag(out, result, text):
    write(out, dict(load(out), diag=result), text, halves(out)[1])


def save(out, part, result):
    """A part of bench/system."""
    known = dict(load(out), **{part: result})
    tail = f"""{SYSTEM}

Written by `bench/system` (`make bench` runs it, too; root; `bench/system PART` for one of {', '.join(PARTS)}; `--quick` for
fewer runs), in labs and namespaces of its own. All samples are in `results.json`. {result['machine']}; {result['versions']}.

""" + "\n".join(section(part, known[part]) for part in PARTS if part in known)
    write(out, known, halves(out)[0], tail)
