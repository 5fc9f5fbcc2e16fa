"""Whether a process that was written down still lives."""

from __future__ import annotations

import os
import subprocess
import sys
import time

import psutil
import pytest

from sandbox.presence import born_at, keeps_id, lives


def test_one_that_lives_is_told_from_another_of_its_id() -> None:
    born = born_at(os.getpid())
    assert born is not None
    assert lives(os.getpid(), born)
    assert not lives(os.getpid(), born - 10)


def test_one_that_was_killed_is_dead_before_its_parent_looks_after_it() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"]) as process:
        born = born_at(process.pid)
        assert born is not None
        process.kill()
        while psutil.Process(process.pid).status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.01)
        assert not lives(process.pid, born)
        assert keeps_id(process.pid, born), "others of its group may live"
        assert not keeps_id(process.pid, born - 10)
    assert not lives(process.pid, born)
    assert not keeps_id(process.pid, born)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a start is told by the clock")
def test_a_clock_that_is_set_makes_nobody_dead(monkeypatch: pytest.MonkeyPatch) -> None:
    born = born_at(os.getpid())
    assert born is not None
    # What is derived from the clock moves with it.
    began = psutil.boot_time()
    monkeypatch.setattr(psutil, "boot_time", lambda: began + 3600)
    monkeypatch.setattr("psutil._pslinux.boot_time", lambda: began + 3600)
    assert lives(os.getpid(), born)
