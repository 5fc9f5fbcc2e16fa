"""`spurline` as on another machine: `elsewhere.py NAME SECONDS ARGUMENTS…`. The machine has that name, and its clock is
so many seconds off. Nothing else of it is another one: it is told apart by its name, as machines are."""

from __future__ import annotations

import importlib
import platform
import sys
import time

if __name__ == "__main__":
    name, off_s, right_time = sys.argv[1], float(sys.argv[2]), time.time
    # Before anything of ours is imported, and takes the clock for its own.
    platform.node = lambda: name
    time.time = lambda: right_time() + off_s
    sys.argv = ["spurline", *sys.argv[3:]]
    importlib.import_module("harness.cli").main()
