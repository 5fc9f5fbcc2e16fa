"""Evidence: what goes back to the agent. Small, redacted, and in the words of whoever answered.

For each failing check: what was asked, what was expected, which hop answered what, the way the request took, and what
the forks logged meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

from harness.validation.trial import Run, Series, Trial
from harness.validation.verdict import Judgement
from sandbox.driver import LogLine, Window
from sandbox.exchanges import Exchange, redact
from sandbox.hops import Hop, trace
from sandbox.keys import masked
from tasks.errors import ForkError
from tasks.text import capped, one_line, plain
from tasks.ticket import HttpCheck

LIMIT: Final = 6_000
_DETAILED, _TESTS, _EXCHANGES, _HOPS, _LINES = 2, 3, 2, 14, 25
_TEST_TEXT, _BODY, _LOG = 900, 600, 1_400

Logs = Mapping[str, Sequence[LogLine]]


def of_trial(trial: Trial, judgement: Judgement, logs: Logs) -> str:
    """The evidence of a judged trial: at most `LIMIT` characters, without the routing key."""
    failing = [one for one in trial.series if one.item.name in judgement.failing]
    parts = [f"Verdict: {judgement.conclusion}. {judgement.reason}."]
    parts += ["\n".join(_check(series)) for series in failing[:_DETAILED]]
    if len(failing) > _DETAILED:
        others = [f"  {one.item.name}: {one.decisive.result.detail}" for one in failing[_DETAILED:]]
        parts.append("\n".join(["Also failing:", *others]))
    parts += [_log(service, lines) for service, lines in logs.items() if lines]
    return _clean("\n\n".join(parts), trial.sandbox.key)


def of_fork(error: ForkError) -> str:
    """The evidence of a fork that did not build or start: its last lines, where its traceback is."""
    did = "did not build" if error.stage == "build" else "did not start"
    lines = "\n".join(f"  {line}" for line in error.log)
    hint = f"\n{error.hint}" if error.hint else ""
    return _clean(f"The fork of {error.service} {did}: {error.message}{hint}\n\nIts last lines:\n{lines}")


def of_static(output: str) -> str:
    """The evidence of static checks that fail."""
    return _clean(f"The project's own static checks fail on your commit:\n\n{output}")


def of_judgement(judgement: Judgement) -> str:
    """The evidence where there is no more to say than why."""
    return _clean(f"Verdict: {judgement.conclusion}. {judgement.reason}.")


def _check(series: Series) -> Iterator[str]:
    run = series.decisive
    whose = "the ticket's own check" if series.item.own else "a check of the repository"
    flaky = f" (flaky: {', '.join(one.result.outcome for one in series.runs)})" if len(_answers(series)) > 1 else ""
    yield f"Check {series.item.name!r}, {whose}, does not pass{flaky}."
    yield f"  asked:    {_asked(series)}"
    yield f"  baseline: {_word(series.baseline.outcome)}"
    yield f"  sandbox:  {run.result.detail}"
    yield from _tests(run)
    yield from _answered(run.window)
    yield from _way(run.window)
    if not run.result.tests and run.result.output and not isinstance(series.item.check, HttpCheck):
        yield f"  output:\n{_indented(capped(run.result.output, _TEST_TEXT))}"


def _answers(series: Series) -> set[bool]:
    return {run.result.passed for run in series.runs}


def _word(outcome: str) -> str:
    return {"pass": "it passes there", "fail": "it fails there"}.get(outcome, "it cannot be judged there")


def _asked(series: Series) -> str:
    check = series.item.check
    if not isinstance(check, HttpCheck):
        return one_line(check.run)
    request = check.request
    body = "" if request.json_body is None else " " + json.dumps(request.json_body, ensure_ascii=False)
    return one_line(f"{request.method} {request.path} of {request.service or 'the entry'}{body}")


def _tests(run: Run) -> Iterator[str]:
    for test in run.result.tests[:_TESTS]:
        yield f"  failing test {test.name}: {test.message}"
        if test.text:
            yield _indented(capped(test.text, _TEST_TEXT))


def _answered(window: Window) -> Iterator[str]:
    """The failing exchanges at the hops that answered, not at those that passed the failure on."""
    exchanges = window.exchanges
    origins = [one for one in exchanges if not any(other.caller == one.service for other in exchanges)]
    for one in _distinct(origins or exchanges)[:_EXCHANGES]:
        yield f"  {one.service} ({_server(one, window.hops)}) answered {one.caller} with {_status(one)}:"
        yield f"    request  {one.method} {one.path} {capped(one.request_body, _BODY)}".rstrip()
        yield f"    response {one.status} {capped(one.response_body, _BODY)}".rstrip()


def _distinct(exchanges: Iterable[Exchange]) -> list[Exchange]:
    kept: dict[tuple[str, str, str, int], Exchange] = {}
    for one in exchanges:
        kept.setdefault((one.service, one.method, one.path, one.status), one)
    return list(kept.values())


def _status(exchange: Exchange) -> str:
    return f"gRPC status {exchange.grpc_status}" if exchange.grpc_status else str(exchange.status)


def _server(exchange: Exchange, hops: Sequence[Hop]) -> str:
    for hop in hops:
        if (hop.caller, hop.service, hop.path) == (exchange.caller, exchange.service, exchange.path):
            return _who(hop)
    return "unknown"


def _way(window: Window) -> Iterator[str]:
    hops = trace(window.hops)
    if hops:
        yield "  hops:"
    for hop in hops[:_HOPS]:
        yield f"    {hop.caller} → {hop.service}  {hop.method} {hop.path}  {hop.status}  {_who(hop)}"
    if len(hops) > _HOPS:
        yield f"    … {len(hops) - _HOPS} more"


def _who(hop: Hop) -> str:
    return "your fork" if hop.served_by == "fork" else hop.served_by


def _log(service: str, lines: Sequence[LogLine]) -> str:
    text = "\n".join(line.text for line in lines[-_LINES:])
    return f"Log of your fork of {service}:\n{_indented(text[-_LOG:])}"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())


def _clean(text: str, key: str | None = None) -> str:
    text = redact(plain(text))
    if key is not None:
        text = text.replace(key, masked(key))
    return capped(text, LIMIT)
