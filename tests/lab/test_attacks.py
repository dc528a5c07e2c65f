#!/usr/bin/python3
"""Bad input and attacks, against the whole system with its real parts. test_attacks.py BUILD [NAME-PART...]

Nodes, clients, a plane and a disk that do what they may not: each is refused, told once in the log, and a node that tells
numbered events all the while loses none. Each scenario has a lab of its own; they run side by side. Needs root. Ends with the line
"N passed, N failed"."""

import importlib
import pathlib
import sys
import threading
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from attacks.world import Scenario, Tally  # noqa: E402

PARTS = ("clock", "web", "disk", "broker", "hostile_plane", "local")  # the long ones first
AT_ONCE = 5


def run(name, scenario, tally, build, room):
    with room:
        began = time.monotonic()
        try:
            with Scenario(name, tally, build) as world:
                scenario(world)
        except Exception:  # a scenario that breaks is one that failed
            tally.check(f"{name}: from its beginning to its end", traceback.format_exc())
        print(f"       {name} took {time.monotonic() - began:.0f} s", flush=True)


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 64
    wanted = sys.argv[2:]
    scenarios = {}
    for part in PARTS:
        if (pathlib.Path(__file__).parent / "attacks" / f"{part}.py").exists():
            scenarios |= importlib.import_module(f"attacks.{part}").SCENARIOS
    tally, room = Tally(), threading.Semaphore(AT_ONCE)
    threads = [threading.Thread(target=run, args=(name, scenario, tally, sys.argv[1], room)) for name, scenario in scenarios.items()
               if not wanted or any(word in name for word in wanted)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed or not tally.passed else 0


sys.exit(main())
