"""Each service of `spurline.yaml`, held against the commit that a checkout would have and against this machine."""

from __future__ import annotations

import os
import posixpath
import shlex
import shutil
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from harness.discovery.diagnosis import Diagnosis, ok, problem, warning
from harness.discovery.findings import TODO
from sandbox.local.backlinks import leads_back
from sandbox.service import Service, System, lies_below

_CONNECT_TIMEOUT_S: Final = 1.0
_SHELL_WORDS: Final = frozenset(";|&()<>$`")
_BUILTINS: Final = frozenset(
    {"cd", "set", "export", "test", "[", "true", "false", "exec", ":", ".", "if", "for", "while"}
)


@dataclass(frozen=True, slots=True)
class Ground:
    """What services are held against."""

    root: Path
    files: frozenset[str] | None
    """The paths of the commit that the baseline would run; None where there is no commit to look at."""
    environment: Mapping[str, str]


def services(system: System, ground: Ground) -> Iterator[Diagnosis]:
    """What is wrong with each service, or that nothing is."""
    for name, service in system.services.items():
        found = list(_service(service, ground))
        yield from found
        if not any(diagnosis.level == "problem" for diagnosis in found):
            yield ok(f"service {name}", _summary(service))
    yield from _nested(system)
    yield from _unreached(system)


def _nested(system: System) -> Iterator[Diagnosis]:
    """Services in whose folder others lie: a change of theirs is one of both, which no ticket for one alone allows."""
    started = [service for service in system.services.values() if service.url is None]
    for outer in started:
        inside = [one.name for one in started if one.cwd != outer.cwd and lies_below(one.cwd, outer.cwd)]
        if inside:
            yield warning(
                f"service {outer.name}",
                f"in its cwd {outer.cwd!r} lie those of {', '.join(inside)}: what changes them changes it too",
                f"say the folder of its own code as cwd (its command runs there), or {outer.name} in their tickets too",
                "config",
            )


def _service(service: Service, ground: Ground) -> Iterator[Diagnosis]:
    subject = f"service {service.name}"
    if service.url is not None:
        yield from _elsewhere(subject, service.url)
        return
    if service.command[:1] == (TODO,):
        yield problem(subject, "its command is still TODO", "say in spurline.yaml how it starts", "config")
        return
    if not (ground.root / service.cwd).is_dir():
        yield problem(subject, f"cwd {service.cwd!r} does not exist", "correct cwd in spurline.yaml", "config")
        return
    if not _committed(service.cwd, ground):
        yield problem(
            subject,
            f"git has no file below cwd {service.cwd!r} in the commit",
            "commit it: the baseline runs from a checkout, never from the work tree",
            "config",
        )
    for place in service.shared:
        if not (ground.root / place).exists():
            yield problem(subject, f"shared {place!r} does not exist", "correct it in spurline.yaml", "config")
    for link in service.link:
        yield from _link(subject, link, ground)
    yield from _program(subject, service, ground)
    if service.build is not None:
        yield from _build(subject, service.build, service, ground)


def _elsewhere(subject: str, url: str) -> Iterator[Diagnosis]:
    parts = urlsplit(url)
    try:
        address = (parts.hostname or "", parts.port or {"https": 443, "http": 80}.get(parts.scheme, 0))
        with socket.create_connection(address, timeout=_CONNECT_TIMEOUT_S):
            pass
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        yield problem(
            subject, f"nothing answers at {url} ({reason})", "start it, or correct its url: Spurline only routes to it"
        )


def _link(subject: str, link: str, ground: Ground) -> Iterator[Diagnosis]:
    if not (ground.root / link).is_dir():
        way_out = "make it (install the dependencies, generate the code), or take it out of link"
        yield problem(subject, f"link {link!r} is no folder of the work tree", way_out)
    elif ground.files is not None and _below(link, ground.files):
        way_out = "take it out of link: a checkout has it already, at the right commit"
        yield warning(subject, f"link {link!r} is tracked by git", way_out, "config")
    elif (place := leads_back(ground.root / link, ground.root)) is not None:
        way_out = (
            "install without --editable or workspaces: no fork may run, and a confined one cannot see, what lies there"
        )
        where = place.relative_to(ground.root.resolve())
        yield warning(subject, f"link {link!r} leads back into the work tree, by {str(where)!r}", way_out, "config")


def _program(subject: str, service: Service, ground: Ground) -> Iterator[Diagnosis]:
    word = service.command[0]
    if "/" not in word:
        path = service.env.get("PATH") or ground.environment.get("PATH", "")
        if shutil.which(word, path=path) is None:
            yield problem(
                subject, f"there is no program {word!r} on PATH", "install it, or correct command in spurline.yaml"
            )
        return
    where = ground.root / service.cwd / word
    inside = posixpath.normpath(posixpath.join(service.cwd, word))
    if word.startswith("/"):
        if not os.access(word, os.X_OK):
            yield problem(subject, f"{word!r} is no program", "correct command in spurline.yaml", "config")
        return
    if any(inside.startswith(link.rstrip("/") + "/") for link in service.link):
        if not os.access(where, os.X_OK):
            yield problem(subject, f"{inside!r} is not there", "install the dependencies that link names")
        return
    tracked = ground.files is None or inside in ground.files
    if not tracked and service.build is None:
        yield problem(
            subject,
            f"git does not track {inside!r}, and no build makes it: a checkout would lack it",
            "name what makes it under build, or the untracked folder that holds it under link",
            "config",
        )
    elif tracked and service.build is None and not os.access(where, os.X_OK):
        yield problem(subject, f"{inside!r} is not executable", f"`chmod +x {inside}` and commit", "config")


def _build(subject: str, build: str, service: Service, ground: Ground) -> Iterator[Diagnosis]:
    """The build's own program, where the command is plain enough to tell."""
    try:
        words = shlex.split(build)
    except ValueError:
        yield problem(subject, f"build {build!r} has an open quotation mark", "correct it in spurline.yaml", "config")
        return
    first = next((word for word in words if "=" not in word), "")
    if not first or first in _BUILTINS or "/" in first or _SHELL_WORDS & set(first):
        return
    path = service.env.get("PATH") or ground.environment.get("PATH", "")
    if shutil.which(first, path=path) is None:
        yield problem(subject, f"its build needs {first!r}, which is not on PATH", "install it, or correct build")


def _unreached(system: System) -> Iterator[Diagnosis]:
    """Services that nobody calls: a key never reaches them, so nothing of them can be proven."""
    called = {neighbour for service in system.services.values() for neighbour in service.neighbours}
    lonely = [name for name in system.services if name not in called and name != system.entry]
    for name in lonely:
        yield warning(
            f"service {name}",
            "no other service names it, and it is not the entry",
            f"give its callers ${{url:{name}}}, or its host and port apart, so that they reach it through the router",
            "config",
        )


def _committed(folder: str, ground: Ground) -> bool:
    return ground.files is None or _below(folder, ground.files)


def _below(folder: str, files: Sequence[str] | frozenset[str]) -> bool:
    prefix = "" if folder in ("", ".") else posixpath.normpath(folder) + "/"
    return any(path.startswith(prefix) for path in files)


def _summary(service: Service) -> str:
    if service.url is not None:
        return f"answers at {service.url}"
    return f"{service.cwd}: {shlex.join(service.command)}"
