"""An exchange beside what the baseline answered to the same: aligned line by line, with a sign where they differ. Pure.

What is not on record is said; nothing is made up in its place.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from difflib import SequenceMatcher
from itertools import zip_longest
from typing import Final, Literal

from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from sandbox.seen import Seen, SeenExchange, SeenHop
from tasks.text import one_line
from tui.feed import Check, Verdict
from tui.hopgraph import server, told
from tui.texts import clean

SIDE_BY_SIDE: Final = 72
"""Cells; where there are fewer, one stands below the other."""
NO_BODY: Final = "(its body is not on record)"
NOTHING: Final = "(nothing of the baseline is on record)"

Sign = Literal[" ", "≠", "<", ">"]
_STYLES: Final = {" ": "default", "≠": "bold yellow", "<": "red", ">": "green"}


@dataclass(frozen=True, slots=True)
class Step:
    """A hop of the last verdict, and the check in whose run it was seen first."""

    check: Check
    hop: SeenHop


def steps(verdict: Verdict) -> tuple[Step, ...]:
    """All hops that are on record, each once, however many checks made it; of checks that fail first."""
    found: dict[tuple[object, ...], Step] = {}
    for check in sorted(verdict.checks, key=_order):
        for hop in check.seen.hops:
            same = hop.kind, hop.status, hop.grpc_status, hop.served_by, hop.generation
            known = found.get(same)
            if known is None:
                found[same] = Step(check, hop)
            else:
                times, origin = known.hop.times + hop.times, known.hop.origin or hop.origin
                found[same] = replace(known, hop=replace(known.hop, times=times, origin=origin))
    return tuple(found.values())


def _order(check: Check) -> tuple[bool, ...]:
    """First what the change broke, and of that what both sides are known of."""
    compares = bool(check.seen.answer and check.baseline_seen.answer)
    return check.sandbox == "pass", not check.own and check.baseline != "pass", not compares, not check.own


def compared(step: Step, width: int) -> list[RenderableType]:
    """The exchange of a hop, and the answer to its check, each beside the baseline's."""
    check, hop = step.check, step.hop
    exchange = _of(hop, check.seen)
    head = Text(f"{one_line(hop.caller)} → {one_line(hop.service)}  {told(hop)}  ", "bold")
    head.append(server(hop), "green" if hop.served_by == "fork" else "default")
    if hop.origin:
        head.append("  ✗ failed here", "bold red")
    shown: list[RenderableType] = [head, Text(f"in check {one_line(check.name)!r}", "dim"), Text()]
    if exchange is not None and exchange.request.strip():
        shown += [Text("request", "bold"), Text(clean("\n".join(lines(exchange.request)))), Text()]
    left = [f"{_status(hop)}", *(lines(exchange.response) if exchange else [NO_BODY])]
    right = _baseline(hop, check)
    shown += _beside(
        (f"in the sandbox: {one_line(hop.service)}, {server(hop)}", left), ("on the baseline", right), width
    )
    if check.seen.answer or check.baseline_seen.answer:
        shown += [Text(), Text("what the check itself asked", "bold"), Text(clean("\n".join(lines(check.asked))))]
        sides = [lines(seen.answer) if seen.answer else [] for seen in (check.seen, check.baseline_seen)]
        shown += [Text()]
        shown += _beside(
            (f"in the sandbox: {check.sandbox}", sides[0] or ["(no answer is on record)"]),
            (f"on the baseline: {check.baseline}", sides[1] or [NOTHING]),
            width,
        )
    elif check.detail or check.baseline_detail:
        shown += [Text(), Text("what the check said", "bold")]
        shown += _beside(
            (f"in the sandbox: {check.sandbox}", clean(check.detail).split("\n")),
            (f"on the baseline: {check.baseline}", clean(check.baseline_detail or "-").split("\n")),
            width,
        )
    return shown


def lines(message: str) -> list[str]:
    """A message's lines; a body that is JSON takes one for each of its values."""
    head, _, body = message.partition("\n\n") if not message.startswith("\n") else ("", "", message[1:])
    with suppress(ValueError, RecursionError):
        body = json.dumps(json.loads(body), indent=2, ensure_ascii=False)
    return [line for line in (*clean(head).split("\n"), *clean(body).split("\n")) if line]


def aligned(left: Sequence[str], right: Sequence[str]) -> Iterator[tuple[str, Sign, str]]:
    """Both texts beside each other: the same in a row, what differs with a sign between, what only one has."""
    for what, a, b, c, d in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if what == "equal":
            yield from ((line, " ", line) for line in left[a:b])
            continue
        for one, other in zip_longest(left[a:b], right[c:d]):
            yield one or "", "<" if other is None else ">" if one is None else "≠", other or ""


def _beside(left: tuple[str, list[str]], right: tuple[str, list[str]], width: int) -> list[RenderableType]:
    rows = list(aligned(left[1], right[1]))
    if {NOTHING, NO_BODY} & {left[1][-1], right[1][-1]}:
        # What is not on record does not differ; the status may.
        rows = [(one or "", " ", other or "") for one, other in zip_longest(left[1], right[1])]
        if right[1][0] != NOTHING and _number(left[1][0]) != _number(right[1][0]):
            rows[0] = rows[0][0], "≠", rows[0][2]
    if width < SIDE_BY_SIDE:
        return [
            Text(left[0], "bold"),
            *(_marked(sign, one) for one, sign, _ in rows if one or sign in " ≠<"),
            Text(right[0], "bold"),
            *(_marked(sign, other) for _, sign, other in rows if other or sign in " ≠>"),
        ]
    table = Table(expand=True, box=None, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column(Text(left[0]), ratio=1, overflow="fold")
    table.add_column("", width=1)
    table.add_column(Text(right[0]), ratio=1, overflow="fold")
    for one, sign, other in rows:
        style = _STYLES[sign]
        table.add_row(Text(one, style), Text(sign, style), Text(other, style))
    return [table]


def _marked(sign: Sign, line: str) -> Text:
    return Text(f"{sign} {line}", _STYLES[sign])


def _baseline(hop: SeenHop, check: Check) -> list[str]:
    """What the baseline answered to the same at the same place."""
    known = check.baseline_seen
    same = next((one for one in known.exchanges if one.kind == hop.kind), None)
    if same is not None:
        return [_status(same), *lines(same.response)]
    answers = [one for one in known.hops if one.kind == hop.kind]
    if not answers:
        return [NOTHING]
    return [*(f"{_status(one)}{f' ×{one.times}' if one.times > 1 else ''}" for one in answers), NO_BODY]


def _number(status: str) -> str:
    return status.partition(" ×")[0]


def _of(hop: SeenHop, seen: Seen) -> SeenExchange | None:
    return next((one for one in seen.exchanges if (one.kind, one.status) == (hop.kind, hop.status)), None)


def _status(one: SeenHop | SeenExchange) -> str:
    if one.grpc_status:
        return f"gRPC status {one.grpc_status}"
    return str(one.status) if one.status else "no answer"
