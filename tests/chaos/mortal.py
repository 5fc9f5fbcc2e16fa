"""`spurline`, killed or stopped at one exact place: `mortal.py SIGNAL PLACE WHEN TIMES ARGUMENTS…`.

SIGNAL is the name of what the process sends itself there (`SIGKILL`; `SIGSTOP`, to be woken later). PLACE is
`module:Class.method` of the product, WHEN `before` or `after` it did its work, TIMES which of its calls. The product
holds no hook for it: the method is wrapped here, in the process that is to die, which then runs the very same command
line. A place in which further words follow in brackets (`…:StoreJournal.move[verified]`) only counts calls that are
given one of them.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import itertools
import os
import re
import signal
import sys
from typing import Any


def lay(number: signal.Signals, place: str, when: str, times: int) -> None:
    """Wrap the method: the process sends itself the signal before or after call number `times`."""
    found = re.fullmatch(r"([\w.]+):(\w+)\.(\w+)(?:\[([\w -]+)\])?", place)
    assert found is not None, place
    module, owner, name, words = found.groups()
    holder = getattr(importlib.import_module(module), owner)
    method, calls = getattr(holder, name), itertools.count(1)

    def hit(given: tuple[Any, ...]) -> bool:
        told = words is None or any(word in given for word in words.split())
        return told and next(calls) == times

    @functools.wraps(method)
    async def later(*given: Any, **named: Any) -> Any:
        due = hit(given)
        if due and when == "before":
            os.kill(os.getpid(), number)
        result = await method(*given, **named)
        if due and when == "after":
            os.kill(os.getpid(), number)
        return result

    @functools.wraps(method)
    def at_once(*given: Any, **named: Any) -> Any:
        due = hit(given)
        if due and when == "before":
            os.kill(os.getpid(), number)
        result = method(*given, **named)
        if due and when == "after":
            os.kill(os.getpid(), number)
        return result

    setattr(holder, name, later if inspect.iscoroutinefunction(method) else at_once)


if __name__ == "__main__":
    lay(signal.Signals[sys.argv[1]], sys.argv[2], sys.argv[3], int(sys.argv[4]))
    sys.argv = ["spurline", *sys.argv[5:]]
    importlib.import_module("harness.cli").main()
