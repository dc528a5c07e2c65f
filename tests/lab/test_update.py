#!/usr/bin/python3
"""Software updates with real parts: a control plane with its repository, and nodes that are Debians under systemd with the package of
this tree, updated to newer ones that are good or bad, on ways that are open or not, with kill -9 and power cuts at random points.
test_update.py BUILD [NAME-PART...] [--seed N]. Needs root. Ends with the line "N passed, N failed"."""

import argparse
import pathlib
import random
import signal
import sys
import threading
import time
import traceback

sys.dont_write_bytecode = True

from update import basic, cuts, kills, ways, world as worlds  # noqa: E402

LOCK = threading.Lock()


def say(text):
    with LOCK:
        print(text, flush=True)


def tests_of(module, parts):
    tests = [(name[5:], value) for name, value in vars(module).items() if name.startswith("test_")]
    return [t for t in tests if not parts or any(part in t[0] for part in parts)]


class Lane(threading.Thread):
    """The tests of a module, one after the other, in a world of their own."""

    def __init__(self, module, options, deb, chance):
        super().__init__(daemon=True)
        self.world = None
        self.module, self.options, self.deb, self.chance = module, options, deb, chance
        self.tests = tests_of(module, options.parts)
        self.kind = module.__name__.split(".")[-1]
        self.passed = self.failed = 0

    def count(self, what, began, wrong):
        self.passed, self.failed = self.passed + (not wrong), self.failed + bool(wrong)
        say(f"{'FAILED ' if wrong else 'ok     '} {self.kind} {what} ({time.monotonic() - began:.1f} s)" + (f"\n{wrong}" if wrong else ""))

    def run(self):
        if not self.tests:
            return
        began = time.monotonic()
        try:
            with worlds.World(self.options.build, f"u{self.kind[0]}{self.options.number}", self.deb) as world:
                self.world, world.chance = world, self.chance
                say(f"        {self.kind}: it is up ({time.monotonic() - began:.1f} s)")
                self.run_tests(world)
            self.world = None
        except Exception:  # noqa: BLE001 - told, and counted
            self.count("world", began, traceback.format_exc())

    def run_tests(self, world):
        for name, test in self.tests:
            began, wrong = time.monotonic(), ""
            try:
                test(world)
            except Exception:  # noqa: BLE001 - told, and counted
                wrong = traceback.format_exc()
            self.count(name, began, wrong)
            if wrong:
                self.recover(world)
        began = time.monotonic()
        self.count("nobody but the profile's hosts was asked", began, "\n".join(world.strangers()[:20]))

    @staticmethod
    def recover(world):
        """So that what failed is not the next one's failure."""
        try:
            world.lab("reset")
            world.update("--cancel", accept=None)
            world.await_end(seconds=60)
            world.mark = world.plane_rows("SELECT coalesce(max(id), 0) FROM events")[0][0]
            world.version = world.installed()[1]
        except Exception:  # noqa: BLE001 - the next one will tell
            say(traceback.format_exc())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("build", type=pathlib.Path)
    parser.add_argument("parts", nargs="*")
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--deb", type=pathlib.Path, help="the node's package; otherwise that of this tree")
    options = parser.parse_intermixed_args()
    seed = options.seed if options.seed is not None else random.SystemRandom().randrange(1 << 32)
    options.number = random.SystemRandom().randrange(10000)
    began = time.monotonic()
    say(f"seed {seed}")
    deb = options.deb or worlds.make_package()
    chance = random.Random(seed)
    lanes = [Lane(module, options, deb, random.Random(chance.random())) for module in MODULES]
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))
    try:
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()
    finally:
        for lane in lanes:
            if lane.world:  # a join that a signal ends takes the thread for one that has ended
                lane.world.__exit__()
    passed, failed = (sum(getattr(lane, what) for lane in lanes) for what in ("passed", "failed"))
    print(f"{time.monotonic() - began:.0f} s")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


MODULES = [basic, ways, kills, cuts]

sys.exit(main())
