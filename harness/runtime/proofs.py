"""What the screen shows of a verdict's document, which an earlier version may have written, and of a signed record."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness.project import invocation
from harness.validation.document import rejudge, seen_of
from sandbox.hops import Lost
from sandbox.seen import Seen
from tasks.text import capped
from tui.feed import Check, Record, Verdict

_ASKED = 2_000


def verdict_of(name: str, document: Mapping[str, Any]) -> Verdict:
    """The verdict of this id."""
    seen = seen_of(document)
    lost = [*document["lost"], *(loss for check in document["checks"] for loss in check["lost"])]
    return Verdict(
        id=name,
        conclusion=str(document["conclusion"]),
        reason=str(document["reason"]),
        commit=str(document["commit"]),
        checks=tuple(_check(one, *seen.get(one["name"], (Seen(), Seen()))) for one in document["checks"]),
        forks=_forks(document),
        notes=tuple(map(str, document["notes"])),
        evidence=str(document.get("evidence") or ""),
        lost=tuple(dict.fromkeys(Lost(**loss) for loss in lost)),
    )


def record_of(state: Path, run: str, ticket: str, commit: str) -> Record | None:
    """The record of a ticket that stands at `commit`, and what is to be thought of it; None where there is none. It
    blocks, on files. UsageError where it, or the project's key, cannot be read."""
    from harness.submission import load_public_key, verify_file
    from harness.submission.files import record_path
    from harness.submission.keys import PUBLIC_NAME

    path = record_path(state, run, ticket)
    if not path.exists():
        return None
    found = verify_file(path, [load_public_key(state / "keys" / PUBLIC_NAME)], rejudge)
    said = found.verdict
    command = ["verify", str(path), *(("--commit", commit) if commit else ())]
    about, wanted = tuple(str(said.get(name)) for name in ("run", "ticket", "commit")), (run, ticket, commit)
    return Record(
        path=str(path),
        command=f"{invocation(state.parent)} {shlex.join(command)}",
        sound=found.sound,
        reason=found.reason,
        other=f"it speaks of {' '.join(about)}, not of {' '.join(wanted)}" if said and about != wanted else "",
        key=found.key or "",
        says=_says(said) if said else (),
        forks=_forks(said) if said else (),
        checks=tuple(
            (str(one["name"]), str(one["baseline"]), ", ".join(map(str, one["runs"])), str(one["digest"]))
            for one in said.get("checks", ())
        ),
    )


def _says(document: Mapping[str, Any]) -> tuple[tuple[str, str], ...]:
    sandbox = document["sandbox"]
    found = [
        (name, str(document[name])) for name in ("conclusion", "reason", "commit", "base", "tree", "ticket", "run")
    ]
    return (*found, ("sandbox", f"{sandbox['name']}, generation {sandbox['generation']}"))


def _forks(document: Mapping[str, Any]) -> tuple[tuple[str, int, int], ...]:
    return tuple((str(one["service"]), int(one["generation"] or 0), int(one["hops"])) for one in document["forks"])


def _check(one: Mapping[str, Any], baseline: Seen, sandbox: Seen) -> Check:
    return Check(
        name=str(one["name"]),
        own=bool(one["own"]),
        baseline=str(one["baseline"]),
        sandbox=str(one["sandbox"]),
        baseline_detail=str(one["baseline_detail"]),
        detail=str(one["detail"]),
        flaky=bool(one["flaky"]),
        asked=capped(_asked(one.get("definition", {})), _ASKED),
        seen=sandbox,
        baseline_seen=baseline,
    )


def _asked(definition: Mapping[str, Any]) -> str:
    """The request of an HTTP check, or the words of a command."""
    request = definition.get("request")
    if not isinstance(request, Mapping):
        return str(definition.get("run", ""))
    headers = "".join(f"{name}: {value}\n" for name, value in request.get("headers", {}).items())
    body = json.dumps(request["json"], ensure_ascii=False) if "json" in request else str(request.get("body") or "")
    return f"{request.get('method', 'GET')} {request.get('path', '/')}\n{headers}\n{body}"
