"""What the screen shows of a verdict's document. It may be of an earlier version, which kept less."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from harness.validation.document import seen_of
from sandbox.hops import Lost
from sandbox.seen import Seen
from tasks.text import capped
from tui.feed import Check, Verdict

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
        forks=tuple((str(one["service"]), int(one["generation"] or 0), int(one["hops"])) for one in document["forks"]),
        notes=tuple(map(str, document["notes"])),
        evidence=str(document.get("evidence") or ""),
        lost=tuple(dict.fromkeys(Lost(**loss) for loss in lost)),
    )


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
