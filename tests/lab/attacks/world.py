"""What the attacks share: counting, a node that goes on telling meanwhile, what the plane's log says."""

import threading

from plane_site import Failed, Site, compare, query, sanitizer_words, stop, wait_for

MOST_WAITING = 50


class Tally:
    def __init__(self):
        self.passed = self.failed = 0
        self.lock = threading.Lock()

    def check(self, what, against=None):
        """`against` speaks against it: anything that is true. One line each."""
        with self.lock:
            self.passed, self.failed = self.passed + (not against), self.failed + bool(against)
            print(f"{'ok    ' if not against else 'FAILED'} {what}" + (f": {str(against)[:1500]}" if against else ""), flush=True)


class Witness:
    """A node that tells numbered events all the time: what is done to others must not touch it."""

    def __init__(self, site):
        self.site, self.node = site, site.new_node("witness")
        self.process = self.start(MOST_WAITING)
        wait_for("the witness is heard", lambda: self.count() > 20, 20)

    def start(self, waiting):
        rows = query(self.node.database, "SELECT seq FROM sqlite_sequence WHERE name = 'item'") if self.node.database.exists() else []
        with open(self.node.log, "a", encoding="utf-8") as log:
            return self.site.start("node", self.site.build / "tests/lab/producer", self.node.root, self.site.folder / "list",
                                   rows[0][0] + 1 if rows else 1, waiting, log=log)

    def count(self):
        return self.site.plane_rows("SELECT count(*) FROM events WHERE node = ?", self.node.id)[0][0]

    def is_heard(self, seconds=10):
        """'' once more of it has arrived."""
        before = self.count()
        try:
            wait_for("more events of the witness", lambda: self.count() > before, seconds)
            return ""
        except Failed as failure:
            return str(failure)

    def end(self, tally, name):
        """Nothing of it was lost, and nothing is twice."""
        status = stop(self.process)
        tally.check(f"{name}: the witness was not ended by any of it", status)
        self.process = self.start(0)
        try:
            wait_for("all of the witness has arrived", lambda: self.node.waiting() == 0, 60)
        except Failed as failure:
            print(failure)
        status = stop(self.process)
        wrong, count = compare(self.site, self.node)
        tally.check(f"{name}: the {count} events of the witness are all there, once, in order", wrong or status)


class Scenario:
    """A lab with a witness, and the control plane's health before and after."""

    def __init__(self, name, tally, build):
        self.name, self.tally = name, tally
        self.site = Site(build, f"atk-{name}"[:20])

    def __enter__(self):
        self.site.__enter__()
        self.pid = self.site.plane_pid
        return self

    def __exit__(self, *what):
        if not any(what):
            words = sanitizer_words(self.site.plane_words()) + [w for n in self.site.nodes for w in sanitizer_words(n.words())]
            self.check("no word of the sanitizers", words)
        self.site.__exit__(*what)

    def check(self, what, against=None):
        self.tally.check(f"{self.name}: {what}", against)

    def lines(self, *words):
        """Lines of the plane's log that have all of them."""
        return [line for line in self.site.plane_words().splitlines() if all(word in line for word in words)]

    def is_same_plane(self):
        """'' while gridplane and its children were never restarted."""
        bad = [line for line in self.lines("a service changed") if "state=waiting" in line]
        return bad or ("" if self.site.plane_pid == self.pid else "gridplane has another number")
