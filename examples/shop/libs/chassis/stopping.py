"""Waiting for the end of a service."""

from __future__ import annotations

import signal


def wait_for(stops: set[signal.Signals]) -> None:
    """Until one of the signals, which the caller has blocked, comes.

    A thread that was there before (a gRPC channel has some) may be given it instead: then what handles it runs here, as
    soon as this thread looks up.
    """
    if not hasattr(signal, "sigtimedwait"):
        signal.sigwait(stops)
        return
    while signal.sigtimedwait(stops, 0.5) is None:
        pass
