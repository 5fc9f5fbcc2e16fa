"""Evidence: what goes back to the agent. Small, redacted, and in the words of whoever answered.

For each failing check: what was asked, what was expected, which hop answered what, the way the request took, and what
the forks logged meanwhile.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from harness.validation.series import Run, Series
from harness.validation.trial import Trial
from harness.validation.verdict import Judgement
from harness.validation.windows import blemished, origins, story
from sandbox.driver import LogLine, Window
from sandbox.exchanges import Exchange, redact
from sandbox.hops import Hop, trace
from sandbox.keys import masked
from tasks.errors import ForkError
from tasks.text import capped, one_line, plain
from tasks.ticket import HttpCheck

LIMIT: Final = 6_000
_DETAILED, _TESTS, _HOPS, _LINES = 2, 3, 14, 25
_TEST_TEXT, _BODY, _LOG, _DETAIL = 800, 500, 1_200, 260

Logs = Mapping[str, Sequence[LogLine]]


def of_trial(trial: Trial, judgement: Judgement, logs: Logs) -> str:
    """The evidence of a judged trial: at most `LIMIT` characters, without the routing key."""
    failing = [one for one in trial.series if one.item.name in judgement.failing]
    parts = [f"Verdict: {judgement.conclusion}. {one_line(judgement.reason, _DETAIL)}"]
    parts += ["\n".join(_check(series)) for series in failing[:_DETAILED]]
    if len(failing) > _DETAILED:
        others = [f"  {one.item.name}: {one.decisive.result.detail}" for one in failing[_DETAILED:]]
        parts.append("\n".join(["Also failing:", *others]))
    if judgement.conclusion == "unproven":
        parts += _unproven(trial)
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
    yield f"  sandbox:  {one_line(run.result.detail, _DETAIL)}"
    found = origins(run.window, run.result.said, series.baseline.failures)
    for exchange in found:
        yield from _answered(exchange, run.window)
    yield from _way(story(run.window, found[0]) if found else trace(run.window.hops))
    yield from _tests(run)
    if not run.result.tests and run.result.output and not isinstance(series.item.check, HttpCheck):
        yield f"  output:\n{_indented(capped(run.result.output, _TEST_TEXT))}"


def _unproven(trial: Trial) -> Iterator[str]:
    """Where the way of the requests went wrong, and what a fork can do about it."""
    generations = {name: fork.generation for name, fork in trial.sandbox.forks.items()}
    bad = [hop for one in trial.series for run in one.runs for hop in blemished(run.window, generations)]
    if bad:
        yield "\n".join(["Requests that did not go right:", *(_line(hop) for hop in bad[:_HOPS])])
    lost = [*trial.facts.lost, *(loss for check in trial.facts.checks for loss in check.lost)]
    own = [loss for loss in lost if loss.service in generations]
    if own:
        yield (
            f"{own[0].service} was called with the routing key and called {own[0].callee} without it. Forward the "
            "headers `baggage`, `traceparent` and `tracestate` of the incoming request on every call that it makes."
        )


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
    tests = run.result.tests
    for index, test in enumerate(tests[:_TESTS]):
        yield f"  failing test {test.name}: {one_line(test.message, _DETAIL)}"
        if index == 0 and test.text:
            yield _indented(capped(test.text, _TEST_TEXT))
    if len(tests) > _TESTS:
        yield f"  … and {len(tests) - _TESTS} more failing tests"


def _answered(exchange: Exchange, window: Window) -> Iterator[str]:
    who = _server(exchange, window.hops)
    yield f"  {exchange.service} ({who}) answered {exchange.caller} with {_status(exchange)}:"
    yield f"    request  {exchange.method} {exchange.path} {one_line(exchange.request_body, _BODY)}".rstrip()
    yield f"    response {exchange.status} {one_line(exchange.response_body, _BODY)}".rstrip()


def _status(exchange: Exchange) -> str:
    return f"gRPC status {exchange.grpc_status}" if exchange.grpc_status else str(exchange.status)


def _server(exchange: Exchange, hops: Sequence[Hop]) -> str:
    for hop in hops:
        if (hop.caller, hop.service, hop.path) == (exchange.caller, exchange.service, exchange.path):
            return _who(hop)
    return "unknown"


def _way(hops: Sequence[Hop]) -> Iterator[str]:
    if hops:
        yield "  hops:"
    for hop in hops[:_HOPS]:
        yield _line(hop)
    if len(hops) > _HOPS:
        yield f"    … {len(hops) - _HOPS} more"


def _line(hop: Hop) -> str:
    return f"    {hop.caller} → {hop.service}  {hop.method} {hop.path}  {hop.status}  {_who(hop)}"


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
