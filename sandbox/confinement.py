"""What code that nobody has judged yet may reach: agents' commands, builds and forks alike.

Two things hold it: an environment by an allow-list, and, where bubblewrap works, a cage. Inside of one the file system
is read-only but for the writable folders; home, `/tmp` and `/run` are fresh and empty, save for the toolchains that
programs on the PATH need; nobody else's process can be seen; there is no network unless granted, and with it no share
of somebody else's port; no capability is left; and all that was started dies with the command, whichever group or
session it moved to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final, Literal

from sandbox.seccomp import filter_descriptors

# Folders of a home that hold toolchains and nothing secret; they stay readable where the rest of the home is hidden.
_TOOLCHAINS: Final = (".rustup", ".pyenv", ".nvm", ".asdf", ".sdkman", ".local/share/uv", ".local/share/mise", "go/pkg")

# Where build tools keep what they fetched or compiled: a variable that moves it, and what of a home or of that folder.
_BUILD_CACHES: Final = (
    ("GOCACHE", "", ".cache/go-build"),
    ("GOMODCACHE", "", "go/pkg/mod"),
    ("CARGO_HOME", "registry", ".cargo/registry"),
    ("CARGO_HOME", "git", ".cargo/git"),
    ("", "", ".m2/repository"),
    ("GRADLE_USER_HOME", "caches", ".gradle/caches"),
    ("GRADLE_USER_HOME", "wrapper", ".gradle/wrapper"),
    ("npm_config_cache", "", ".npm"),
    ("YARN_CACHE_FOLDER", "", ".cache/yarn"),
    ("", "", ".local/share/pnpm/store"),
    ("PIP_CACHE_DIR", "", ".cache/pip"),
    ("UV_CACHE_DIR", "", ".cache/uv"),
    ("NUGET_PACKAGES", "", ".nuget/packages"),
)
_READ_ONLY_WILL_DO: Final = frozenset({"GOCACHE", "GOMODCACHE", "CARGO_HOME"})
_HANDED_ON: Final = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "XDG_CACHE_HOME"),
        *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"),
        *("VIRTUAL_ENV", "CONDA_PREFIX", "PYENV_ROOT", "RBENV_ROOT", "GEM_HOME", "NVM_DIR", "JAVA_HOME"),
        *("GOROOT", "GOPATH", "GOTOOLCHAIN", "RUSTUP_HOME", "DOTNET_ROOT", "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH"),
        *(name for name, _, _ in _BUILD_CACHES if name),
    }
)


@dataclass(frozen=True, slots=True)
class Cage:
    """What a command may reach. Of two paths, one inside the other, the inner one decides for what lies below it."""

    writable: tuple[Path, ...]
    readable: tuple[Path, ...] = ()
    """Folders and files that stay readable though they lie in a hidden folder, or read-only though in a writable."""
    hidden: tuple[Path, ...] = ()
    """Folders that are empty inside, and files that are."""
    network: bool = False
    """Without it there is only a loopback of the command's own."""


def scrubbed(environ: Mapping[str, str]) -> dict[str, str]:
    """What of `environ` may be handed on: what programs need to be found and to speak. An allow-list, so that keys and
    tokens stay out whatever they are called, and `PYTHONPATH` with them."""
    return {name: value for name, value in environ.items() if name in _HANDED_ON or name.startswith("LC_")}


def build_caches(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """The folders, of those that exist, in which build tools keep what they fetched and compiled: no build without
    them would end in time."""
    return _places(_BUILD_CACHES, environ)


def readable_caches(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Those of them that their tools can use without writing to them, Go's and Cargo's: without a network nothing that
    has dependencies could be compiled."""
    return _places([cache for cache in _BUILD_CACHES if cache[0] in _READ_ONLY_WILL_DO], environ)


def _places(caches: Iterable[tuple[str, str, str]], environ: Mapping[str, str]) -> tuple[Path, ...]:
    found = []
    for variable, below, usual in caches:
        moved = environ.get(variable, "") if variable else ""
        path = Path(moved, below) if moved else Path.home() / usual
        if path.is_absolute() and path.is_dir():
            found.append(path)
    return tuple(found)


def executable(name: str, cwd: Path, env: Mapping[str, str]) -> str | None:
    """The program that `name` is to a command in `cwd` with `env`; None where there is none that may be executed."""
    # execvp looks below the folder of the command, not ours.
    return shutil.which(str(cwd / name) if "/" in name else name, path=env.get("PATH", os.defpath))


@cache
def confinement() -> Literal["bubblewrap", "none"]:
    """What a `Cage` is made of here: bubblewrap where it is installed and the kernel lets it work."""
    if not sys.platform.startswith("linux") or (program := shutil.which("bwrap")) is None:
        return "none"
    begin = (program, *_namespaces(network=False), *_base())
    with filter_descriptors() as filters:
        argv = [*begin, *_with("--seccomp", filters), "--", "/bin/sh", "-c", "exit 0"]
        try:
            probe = subprocess.run(argv, capture_output=True, timeout=10, check=False, pass_fds=filters)
        except (OSError, subprocess.TimeoutExpired):
            return "none"
    return "bubblewrap" if probe.returncode == 0 else "none"


@contextmanager
def caged(
    argv: Sequence[str], cwd: Path, cage: Cage | None, *, status_fd: int | None = None
) -> Iterator[tuple[tuple[str, ...], tuple[int, ...]]]:
    """`argv` as bubblewrap runs it inside of `cage`, and the descriptors that it must inherit, to be started before the
    block ends; unchanged, with none, where there is no cage or no bubblewrap.

    Into the caller's `status_fd` bubblewrap writes JSON objects, a line each; the first has `child-pid`, the process
    whose end is the end of everything inside."""
    program = shutil.which("bwrap") if cage is not None and confinement() == "bubblewrap" else None
    if cage is None or program is None:
        yield tuple(argv), ()
        return
    mounts = [part for _, part in sorted(_mounts(cage), key=lambda mount: len(mount[0].parts))]
    flat = [word for part in mounts for word in part]
    inside = ["--setenv", "TMPDIR", "/tmp", "--chdir", str(cwd.resolve())]
    status = () if status_fd is None else (status_fd,)
    with filter_descriptors() if cage.network else nullcontext(()) as filters:
        outside = [*_with("--json-status-fd", status), *_with("--seccomp", filters)]
        whole = (program, *_namespaces(network=cage.network), *_base(), *flat, *inside, *outside, "--", *argv)
        yield whole, (*status, *filters)


def _with(option: str, descriptors: tuple[int, ...]) -> list[str]:
    return [word for descriptor in descriptors for word in (option, str(descriptor))]


def _namespaces(*, network: bool) -> list[str]:
    # Without its capabilities root inside could mount the read-only folders anew.
    words = ["--die-with-parent", "--new-session", "--unshare-pid", "--unshare-ipc", "--unshare-uts"]
    words += ["--unshare-user-try", "--cap-drop", "ALL"]
    return words if network else [*words, "--unshare-net"]


def _base() -> list[str]:
    # Below /run lie sockets that a read-only mount does not close: Docker's, the session bus.
    words = ["--ro-bind", "/", "/", "--dev", "/dev", "--proc", "/proc", "--tmpfs", "/tmp", "--tmpfs", "/run"]
    return [*words, "--ro-bind-try", "/run/systemd/resolve", "/run/systemd/resolve"]


def _mounts(cage: Cage) -> Iterator[tuple[Path, tuple[str, ...]]]:
    """Every mount with its path; of two on one path the later one wins."""
    hidden = [path for path in (*sorted(_private()), *_real(cage.hidden)) if path != Path("/")]
    for path in hidden:
        yield path, ("--ro-bind", "/dev/null", str(path)) if path.is_file() else ("--tmpfs", str(path))
    masked = frozenset({*hidden, Path("/tmp"), Path("/run")})
    for path in _tools(masked, tuple(os.get_exec_path()), Path.home()):
        yield path, ("--ro-bind-try", str(path), str(path))
    for path in _real(cage.readable):
        yield path, ("--ro-bind", str(path), str(path))
    for path in _real(cage.writable):
        yield path, ("--bind", str(path), str(path))


def _private() -> set[Path]:
    """Homes, and wherever else sockets of the user's may lie, Spurline's own among them."""
    runtime = os.environ.get("XDG_RUNTIME_DIR", "")
    places = [Path.home(), Path("/root"), Path("/home"), Path("/var/tmp"), Path(tempfile.gettempdir())]
    places += [Path(runtime)] if runtime.startswith("/") else []
    return {place.resolve() for place in places if place.is_dir()} - {Path("/tmp"), Path("/run")}


@cache  # looked up anew it would take a part of each fork's start that can be measured
def _tools(masked: frozenset[Path], search: tuple[str, ...], home: Path) -> tuple[Path, ...]:
    """What must stay visible of masked folders for programs on the search path to work."""
    candidates = [Path(sys.prefix), Path(sys.base_prefix), *(home / name for name in _TOOLCHAINS)]
    for entry in map(Path, search):
        if not entry.is_absolute():
            continue
        if (entry.parent / "pyvenv.cfg").is_file():
            candidates.append(entry.parent)
        else:
            candidates += [entry, entry.parent / "lib"] if entry.name == "bin" else [entry]
    return tuple(
        path
        for path in _real(dict.fromkeys(candidates))
        if path not in masked and any(path.is_relative_to(root) for root in masked)
    )


def _real(paths: Sequence[Path] | Mapping[Path, None]) -> Iterator[Path]:
    for path in paths:
        resolved = path.resolve()
        if resolved.exists():
            yield resolved
