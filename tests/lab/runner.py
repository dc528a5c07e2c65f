"""One test of a file of tests: told in a line, its traceback before it."""

import sys
import time
import traceback


def run_test(function, world):
    """Whether it passed."""
    started = time.monotonic()
    try:
        function(world)
        passed = True
    except Exception:
        traceback.print_exc(file=sys.stdout)
        passed = False
    print(f"{'ok' if passed else 'FAILED':<7}{function.__name__} {time.monotonic() - started:.1f} s", flush=True)
    return passed
