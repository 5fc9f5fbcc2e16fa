"""Documents hold all facts and read back as them; evidence is small, says who answered what, and keeps secrets."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.validation import evidence
from harness.validation.bench import Item
from harness.validation.document import Heading, document_of, facts_of, rejudge, seen_of
from harness.validation.facts import (
    BaselineFacts,
    CheckFacts,
    Facts,
    ForkFacts,
    PlantFacts,
    RecordFacts,
    ScopeFacts,
    StaticFacts,
)
from harness.validation.results import CheckResult, FailingTest, digest
from harness.validation.series import Run, Series
from harness.validation.trial import Trial
from harness.validation.verdict import Judgement, judge
from harness.validation.windows import failures, seen_in
from sandbox.driver import LogLine, Sandbox, Window
from sandbox.exchanges import Exchange
from sandbox.hops import Hop, Lost
from sandbox.keys import RoutingKey
from sandbox.seen import Seen
from tasks.errors import ForkError
from tasks.ticket import Check, CommandCheck, HttpCheck

KEY = "0123456789abcdef"
HTTP = HttpCheck.model_validate(
    {
        "name": "an order is charged",
        "request": {"service": "gateway", "method": "POST", "path": "/orders", "json": {"user": 7, "price": 1.5}},
        "expect": {"status": 201},
    }
)
COMMAND = CommandCheck(name="suite", run="pytest -q tests", timeout=1.5)
EMPTY = Window(0.0, 1.0, (), (), (), 0)


def series(check: Check, *results: CheckResult, own: bool = True, window: Window = EMPTY) -> Series:
    item = Item(check, own, check.name, digest(check))
    return Series(item, CheckResult("pass", ""), tuple(Run(1.0, result, window) for result in results))


SERIES = (series(HTTP, CheckResult("pass", "")), series(COMMAND, CheckResult("pass", ""), own=False))
HEADING = Heading("run", "ticket", 1, "d" * 40, "e" * 64, "box", 2, 1, 2)
losses = st.lists(st.builds(Lost, st.sampled_from("ab"), st.sampled_from("ab")), max_size=2).map(tuple)
outcomes = st.sampled_from(["pass", "fail", "unjudged"])
names = st.lists(st.sampled_from(["a", "b"]), max_size=2).map(tuple)
small = st.integers(0, 2)


def check_facts(name: str) -> st.SearchStrategy[CheckFacts]:
    runs = st.lists(outcomes, max_size=3).map(tuple)
    return st.builds(
        CheckFacts,
        st.just(name),
        st.booleans(),
        outcomes,
        runs,
        names,
        losses,
        st.text(max_size=3),
        st.text(max_size=3),
        st.booleans(),
        names,
        names,
    )


some_facts = st.builds(
    Facts,
    commit=st.just("c" * 40),
    base=st.just("b" * 40),
    judged_from=st.none() | st.just("b" * 40),
    judges_intact=st.booleans(),
    scope=st.builds(ScopeFacts, names, names, names, names, names, names, names),
    static=st.none()
    | st.lists(st.builds(StaticFacts, st.just("x"), outcomes, st.none() | outcomes), max_size=2).map(tuple),
    forks=st.lists(
        st.builds(ForkFacts, st.sampled_from("ab"), small, st.none() | st.just("c" * 40), small, st.booleans()),
        max_size=2,
    ).map(tuple),
    checks=st.tuples(check_facts(HTTP.name), check_facts(COMMAND.name)),
    planted=st.lists(st.builds(PlantFacts, st.sampled_from("ab"), st.none() | st.just("suite"), small), max_size=2).map(
        tuple
    ),
    records=st.none() | st.builds(RecordFacts, small, small, small, small, names),
    baseline=st.none() | st.builds(BaselineFacts, st.just("b" * 40), st.just("b" * 40), st.booleans(), st.booleans()),
    repeat=st.integers(1, 3),
    preserve=st.booleans(),
    lost=losses,
)


@settings(deadline=None)
@given(some_facts)
def test_facts_read_back_from_the_json_of_their_document(facts: Facts) -> None:
    judgement = judge(facts)
    document = json.loads(json.dumps(document_of(HEADING, facts, judgement, "evidence", SERIES)))
    assert facts_of(document) == facts
    assert rejudge(document) == judgement.conclusion


def test_what_was_seen_is_kept_with_the_document_without_the_key() -> None:
    baseline = CheckResult("pass", "", seen=Seen((), (), "201\n\npaid"))
    failing = replace(
        series(HTTP, CheckResult("fail", "expected 201, got 502 payments said no"), window=WINDOW), baseline=baseline
    )
    quiet = series(COMMAND, CheckResult("pass", ""), own=False, window=WINDOW)
    facts = replace(good_facts(), checks=tuple(CheckFacts(one.item.name, True, "pass", ("fail",)) for one in SERIES))
    document = json.loads(json.dumps(document_of(HEADING, facts, judge(facts), None, (quiet, failing))))
    found = seen_of(document)
    assert list(found) == [HTTP.name, COMMAND.name]
    known, seen = found[HTTP.name]
    assert known.answer == "201\n\npaid"
    assert [(hop.service, hop.origin) for hop in seen.hops] == [
        ("gateway", False),
        ("users", False),
        ("payments", True),
    ]
    assert [one.service for one in seen.exchanges] == ["payments", "gateway"]
    # Of a check that passes everywhere only the way is kept.
    assert found[COMMAND.name] == (Seen(), replace(seen, exchanges=(), hops=found[COMMAND.name][1].hops))
    assert KEY not in json.dumps(document)
    assert seen_of({}) == {}


def test_what_happens_on_the_baseline_too_is_not_where_it_failed() -> None:
    failing = CheckResult("fail", "expected 201, got 502 payments said no")
    assert [hop.service for hop in seen_in(WINDOW, failing, ()).hops if hop.origin] == ["payments"]
    kept = seen_in(WINDOW, failing, failures(WINDOW))
    assert not any(hop.origin for hop in kept.hops)
    assert {one.service for one in kept.exchanges} == {"payments", "gateway"}


def test_many_checks_that_pass_do_not_make_the_document_large() -> None:
    hops = tuple(hop("client", f"s{n}", float(n), 200) for n in range(40))
    check = HTTP.model_copy(update={"name": "many"})
    many = [series(check, CheckResult("pass", ""), window=replace(WINDOW, hops=hops, exchanges=())) for _ in range(50)]
    named = [replace(one, item=replace(one.item, name=f"c{n}")) for n, one in enumerate(many)]
    facts = replace(good_facts(), checks=tuple(CheckFacts(f"c{n}", False, "pass", ("pass",)) for n in range(50)))
    document = document_of(HEADING, facts, judge(facts), None, named)
    assert len(document["seen"]) == 3
    assert len(json.dumps(document["seen"])) < 25_000


def floats(value: Any) -> bool:
    if isinstance(value, dict):
        return any(floats(one) for one in value.values())
    return any(floats(one) for one in value) if isinstance(value, list) else isinstance(value, float)


@settings(deadline=None)
@given(some_facts)
def test_documents_have_whole_numbers_only(facts: Facts) -> None:
    document = document_of(HEADING, facts, judge(facts), None, SERIES, {"suite": CheckResult("fail", "no")})
    assert not floats(document)
    assert document["checks"][0]["definition"]["request"]["json"] == {"user": 7, "price": "1.5"}
    assert document["evidence_digest"] is None


def test_the_digest_of_the_evidence() -> None:
    facts = facts_of(document_of(HEADING, good_facts(), judge(good_facts()), None, SERIES))
    document = document_of(HEADING, facts, judge(facts), "wörds", SERIES)
    assert document["evidence_digest"] == hashlib.sha256("wörds".encode()).hexdigest()


def good_facts() -> Facts:
    return Facts(
        commit="c" * 40,
        base="b" * 40,
        judged_from="b" * 40,
        judges_intact=True,
        scope=ScopeFacts(("users",)),
        static=(),
        forks=(),
        checks=tuple(CheckFacts(one.item.name, one.item.own, "pass", ("pass",)) for one in SERIES),
        planted=(),
        records=None,
        baseline=None,
        repeat=2,
    )


def exchange(caller: str, name: str, status: int, response: str, **more: Any) -> Exchange:
    values: dict[str, Any] = {
        "at": 1.0,
        "key": KEY,
        "method": "POST",
        "path": f"/{name}",
        "request_headers": {},
        "request_body": '{"amount": 5}',
        "response_headers": {},
    }
    return Exchange(caller=caller, service=name, status=status, response_body=response, **{**values, **more})


def hop(caller: str, name: str, at: float, status: int, served_by: Any = "baseline") -> Hop:
    generation = 1 if served_by == "fork" else None
    return Hop(at, 5.0, caller, name, KEY, ("header",), None, served_by, generation, "", "POST", f"/{name}", status)


WINDOW = Window(
    0.0,
    2.0,
    (
        replace(hop("client", "gateway", 0.99, 502), duration_ms=500.0),
        hop("gateway", "users", 1.1, 200, "fork"),
        hop("gateway", "payments", 1.2, 400),
    ),
    (),
    (
        exchange("client", "gateway", 502, "payments said no"),
        exchange("gateway", "payments", 400, f'{{"error": "currency is required", "key": "{KEY}"}}'),
    ),
    0,
)


def trial(*found: Series) -> Trial:
    sandbox = Sandbox("box", RoutingKey(KEY), {}, {}, 9.0, 1)
    return Trial(good_facts(), found, sandbox, steady=True)


def test_evidence_names_the_hop_that_answered_in_its_own_words() -> None:
    failing = series(HTTP, CheckResult("fail", "expected status 201, got 502"), window=WINDOW)
    judgement = Judgement("failed", "check fails", True, (HTTP.name,))
    logs = {"users": [LogLine(1.0, f"charging with {KEY}"), LogLine(1.1, "password=hunter2")]}
    text = evidence.of_trial(trial(failing), judgement, logs)
    assert "payments (baseline) answered gateway with 400" in text
    assert "currency is required" in text
    assert '{"amount": 5}' in text
    assert "gateway (baseline) answered" not in text
    assert "gateway → users  POST /users  200  your fork" in text
    assert 'POST /orders of gateway {"user": 7, "price": 1.5}' in text
    assert "charging with 0123…" in text
    assert KEY not in text
    assert "hunter2" not in text


def test_evidence_shows_what_is_new_and_the_one_request_that_met_it() -> None:
    usual = exchange("client", "users", 404, "there is no user 999", at=0.5, path="/users/999")
    hops = (hop("client", "users", 0.49, 404), *WINDOW.hops[1:], WINDOW.hops[0])
    window = replace(WINDOW, exchanges=(usual, *WINDOW.exchanges), hops=hops)
    failing = series(COMMAND, CheckResult("fail", "1 of 9 tests failed"), own=False, window=window)
    known = CheckResult("pass", "", failures=failures(replace(window, exchanges=(replace(usual, path="/users/4"),))))
    judgement = Judgement("failed", "r", True, ("suite",))
    text = evidence.of_trial(trial(replace(failing, baseline=known)), judgement, {})
    assert "payments (baseline) answered gateway with 400" in text
    assert "999" not in text
    assert "client → users" not in text
    assert "no user 999" in evidence.of_trial(trial(failing), judgement, {})


def test_evidence_begins_with_what_the_check_complains_of() -> None:
    other = (exchange("client", "gateway", 404, "gone", at=0.1), exchange("gateway", "users", 404, "no such", at=0.2))
    meant = (
        exchange("client", "gateway", 502, "sorry", at=0.3),
        exchange("gateway", "stock", 409, "none left", at=0.4),
    )
    window = replace(WINDOW, exchanges=(*other, *meant))
    text = evidence.of_trial(
        trial(series(COMMAND, CheckResult("fail", "assert 502 == 200: sorry"), window=window)),
        Judgement("failed", "r", True, ("suite",)),
        {},
    )
    assert text.index("none left") < text.index("no such")


def test_evidence_of_a_command_names_its_failing_tests() -> None:
    test = FailingTest("tests.test_a::test_one", "assert 400 == 201", "    def test_one():\n>       assert 400 == 201")
    failing = series(COMMAND, CheckResult("fail", "1 of 2 tests failed", (test,)), own=False)
    text = evidence.of_trial(trial(failing), Judgement("failed", "r", True, ("suite",)), {})
    assert "Check 'suite', a check of the repository" in text
    assert "failing test tests.test_a::test_one: assert 400 == 201" in text
    assert ">       assert 400 == 201" in text


def test_evidence_says_that_a_check_is_flaky() -> None:
    found = series(HTTP, CheckResult("fail", "no"), CheckResult("pass", ""), CheckResult("fail", "no"))
    text = evidence.of_trial(trial(found), Judgement("failed", "r", True, (HTTP.name,)), {})
    assert "flaky: fail, pass, fail" in text


@settings(deadline=None)
@given(st.lists(st.text(max_size=4000), min_size=1, max_size=12))
def test_evidence_is_small_whatever_happens(texts: list[str]) -> None:
    exchanges = tuple(exchange("gateway", f"s{index}", 500, text) for index, text in enumerate(texts))
    result = CheckResult("fail", texts[0], tuple(FailingTest("n", text, text) for text in texts), texts[-1])
    found = series(HTTP, result, window=replace(WINDOW, exchanges=exchanges, hops=WINDOW.hops * 20))
    logs = {f"s{index}": [LogLine(1.0, text)] * 50 for index, text in enumerate(texts)}
    text = evidence.of_trial(trial(found), Judgement("failed", texts[0], True, (HTTP.name,)), logs)
    assert len(text) <= evidence.LIMIT + 60
    assert "\x1b" not in text


@pytest.mark.parametrize(("stage", "words"), [("build", "did not build"), ("start", "did not start")])
def test_evidence_of_a_fork_shows_its_last_lines(stage: str, words: str) -> None:
    error = ForkError("it exited with 1", service="users", stage=stage, log=("Traceback …", "RuntimeError: no tea"))
    text = evidence.of_fork(error)
    assert words in text
    assert text.endswith("RuntimeError: no tea")
