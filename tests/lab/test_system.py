#!/usr/bin/python3
"""The system in the lab, with real processes: registration, the control channel, the monitor, configuration, tools, the
control plane. test_system.py BUILD-FOLDER [--verbose] [NAME-PART...]

Each scenario has a lab of its own; they run side by side. Needs root. Ends with the line "N passed, N failed"."""

import os
import pathlib
import sys
import threading
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from system import channel, configuration, database, enrolment, monitor, plane, tools, update  # noqa: E402
from system.world import Scenario, Stop, Tally  # noqa: E402

# The long ones first.
SCENARIOS = [scenario for part in (configuration, monitor, tools, update, channel, database, plane, enrolment) for scenario in part.SCENARIOS]
AT_ONCE = 12  # they wait more than they work


def run(scenario, tally, build, room):
    with room:
        began = time.monotonic()
        try:
            scenario(Scenario(scenario.__name__, tally, build))
        except Stop:
            pass
        except Exception as error:  # of what stands between the steps
            tally.add(f"{scenario.__name__}: from its beginning to its end", f"{type(error).__name__}: {error}")
        tally.note(f"{scenario.__name__} took {time.monotonic() - began:.0f} s")


def main():
    words = [word for word in sys.argv[1:] if word != "--verbose"]
    if not words:
        print(__doc__, file=sys.stderr)
        return 64
    if os.geteuid() != 0:
        print("namespaces need root", file=sys.stderr)
        return 77
    build, parts = pathlib.Path(words[0]).resolve(), words[1:]
    tally, room = Tally("--verbose" in sys.argv), threading.Semaphore(AT_ONCE)
    chosen = [s for s in SCENARIOS if not parts or any(part in s.__name__ for part in parts)]
    threads = [threading.Thread(target=run, args=(scenario, tally, build, room)) for scenario in chosen]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(f"{tally.passed} passed, {tally.failed} failed")
    return 1 if tally.failed or not tally.passed else 0


sys.exit(main())
