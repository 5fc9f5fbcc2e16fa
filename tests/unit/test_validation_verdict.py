"""The verdict: no fact that breaks a rule can give 'verified'; and who gets which reason."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

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
from harness.validation.verdict import judge, needs_fault
from sandbox.hops import Lost

BASE, COMMIT = "b" * 40, "c" * 40
OWN = CheckFacts("own", own=True, baseline="fail", runs=("pass", "pass"), forks=("users",))
OTHER = CheckFacts("other", own=False, baseline="pass", runs=("pass",), forks=("users",))
GOOD = Facts(
    commit=COMMIT,
    base=BASE,
    judged_from=BASE,
    judges_intact=True,
    scope=ScopeFacts(services=("users",)),
    static=(StaticFacts("ruff check", "pass", None),),
    forks=(ForkFacts("users", 1, COMMIT, 3),),
    checks=(OWN, OTHER),
    planted=(),
    records=RecordFacts(0, 0, 0, 0),
    baseline=BaselineFacts(BASE, BASE, True, True),
    repeat=2,
)
RED = PlantFacts("users", "other", 1)


def test_a_fork_whose_change_was_taken_back_has_nothing_to_prove() -> None:
    left = ForkFacts("legacy", 1, COMMIT, 0)
    assert judge(replace(GOOD, forks=(*GOOD.forks, left))).conclusion == "verified"
    assert judge(replace(GOOD, forks=(*GOOD.forks, replace(left, commit=BASE)))).conclusion == "unproven"
    both = replace(GOOD, forks=(*GOOD.forks, left), checks=(replace(OWN, forks=("legacy", "users")), OTHER))
    assert needs_fault(both) == ("users",)


def test_a_check_that_passes_where_others_lose_the_key_is_noted() -> None:
    judgement = judge(replace(GOOD, checks=(OWN, replace(OTHER, unasked=("users",)))))
    assert judgement.conclusion == "verified"
    assert any("asked users on the baseline, and never the change" in note for note in judgement.notes)
    judgement = judge(
        replace(GOOD, checks=(OWN, replace(OTHER, passed_over=("users answered gateway with 500 (GET /)",))))
    )
    assert judgement.conclusion == "verified"
    assert judgement.notes == ("check 'other' passes though users answered gateway with 500 (GET /)",)
    judgement = judge(replace(GOOD, checks=(OWN, replace(OTHER, lost=(Lost("legacy", "users"),)))))
    assert judgement.conclusion == "verified"
    lost = "the routing key was lost at legacy, which called users without it"
    assert judgement.notes == (f"check 'other' did not ask the change on all of its ways: {lost}",)


def test_the_good_case_is_verified() -> None:
    judgement = judge(GOOD)
    assert judgement.conclusion == "verified"
    assert judgement.reason == "1 of the ticket's checks turned from red to green; 1 other check holds"


BREACHES: list[tuple[str, Facts, str, bool]] = [
    # rule 1
    ("another commit", replace(GOOD, forks=(ForkFacts("users", 1, BASE, 3),)), "unproven", False),
    ("a folder", replace(GOOD, forks=(ForkFacts("users", 1, None, 3),)), "unproven", False),
    ("a changed service without a fork", replace(GOOD, scope=ScopeFacts(("users", "b"))), "unproven", False),
    # rule 2
    ("judged from the commit", replace(GOOD, judged_from=COMMIT), "unproven", False),
    ("judged from nowhere", replace(GOOD, judged_from=None), "unproven", False),
    ("judges touched", replace(GOOD, judges_intact=False), "unproven", False),
    ("protected altered", replace(GOOD, scope=ScopeFacts(("users",), altered=("tests/a",))), "needs_human", False),
    ("outside", replace(GOOD, scope=ScopeFacts(("users",), outside=("x",))), "needs_human", False),
    ("submodule", replace(GOOD, scope=ScopeFacts(("users",), submodules=("x",))), "unproven", True),
    ("leads out", replace(GOOD, scope=ScopeFacts(("users",), leading_out=("x",))), "unproven", True),
    ("nothing changed", replace(GOOD, scope=ScopeFacts(())), "failed", True),
    ("static fails", replace(GOOD, static=(StaticFacts("ruff", "fail", "pass"),)), "failed", True),
    ("static cannot run", replace(GOOD, static=(StaticFacts("ruff", "unjudged", "pass"),)), "failed", True),
    ("static unknown", replace(GOOD, static=None), "unproven", False),
    # rule 3
    ("passes on the baseline", replace(GOOD, checks=(replace(OWN, baseline="pass"), OTHER)), "unproven", False),
    ("cannot run on the baseline", replace(GOOD, checks=(replace(OWN, baseline="unjudged"),)), "unproven", False),
    ("own fails", replace(GOOD, checks=(replace(OWN, runs=("fail", "fail")), OTHER)), "failed", True),
    ("own cannot run", replace(GOOD, checks=(replace(OWN, runs=("unjudged", "unjudged")),)), "failed", True),
    ("regression", replace(GOOD, checks=(OWN, replace(OTHER, runs=("fail", "fail")))), "failed", True),
    ("regression cannot run", replace(GOOD, checks=(OWN, replace(OTHER, runs=("unjudged",)))), "failed", True),
    ("a check that never ran", replace(GOOD, checks=(OWN, replace(OTHER, runs=()))), "failed", True),
    ("no checks", replace(GOOD, checks=()), "unproven", False),
    ("no check that judges", replace(GOOD, checks=(replace(OTHER, baseline="fail"),)), "unproven", False),
    (
        "own turned without asking a fork",
        replace(GOOD, checks=(replace(OWN, forks=()), OTHER), planted=(RED,)),
        "unproven",
        False,
    ),
    # rule 4
    ("fork without hops", replace(GOOD, forks=(ForkFacts("users", 1, COMMIT, 0),)), "unproven", False),
    ("no check that looks", replace(GOOD, checks=(OTHER,)), "unproven", False),
    ("a fault nobody met", replace(GOOD, checks=(OTHER,), planted=(replace(RED, served=0),)), "unproven", False),
    ("a fault nobody saw", replace(GOOD, checks=(OTHER,), planted=(replace(RED, turned_red=None),)), "unproven", False),
    (
        "a fault seen by a flaky check",
        replace(GOOD, checks=(replace(OTHER, runs=("fail", "pass", "pass")),), planted=(RED,)),
        "unproven",
        False,
    ),
    (
        "a fault seen by a check that never reached the fork",
        replace(GOOD, checks=(replace(OWN, forks=("users", "b")), replace(OTHER, forks=())), planted=(RED,)),
        "unproven",
        False,
    ),
    (
        "a fork asked the baseline for what is forked",
        replace(GOOD, checks=(OWN, replace(OTHER, lost=(Lost("users", "users"),)))),
        "unproven",
        True,
    ),
    ("a fork that died", replace(GOOD, forks=(replace(GOOD.forks[0], alive=False),)), "failed", True),
    # rule 5
    ("records unknown", replace(GOOD, records=None), "unproven", False),
    ("dropped", replace(GOOD, records=RecordFacts(1, 0, 0, 0)), "unproven", False),
    (
        "failed by what dropped records",
        replace(GOOD, checks=(replace(OWN, runs=("fail", "fail")), OTHER), records=RecordFacts(1, 0, 0, 0)),
        "unproven",
        False,
    ),
    ("refused", replace(GOOD, records=RecordFacts(0, 1, 0, 0, ("gateway",))), "unproven", False),
    ("refused at its fork", replace(GOOD, records=RecordFacts(0, 1, 0, 0, ("users",))), "unproven", True),
    ("unrouted", replace(GOOD, records=RecordFacts(0, 0, 1, 0)), "unproven", False),
    ("old generation", replace(GOOD, records=RecordFacts(0, 0, 0, 1)), "unproven", False),
    # rule 6
    ("baseline unknown", replace(GOOD, baseline=None), "unproven", False),
    ("sick before", replace(GOOD, baseline=BaselineFacts(BASE, BASE, False, True)), "unproven", False),
    ("sick after", replace(GOOD, baseline=BaselineFacts(BASE, BASE, True, False)), "unproven", False),
    ("version changed", replace(GOOD, baseline=BaselineFacts(BASE, COMMIT, True, True)), "unproven", False),
    ("other version", replace(GOOD, baseline=BaselineFacts(COMMIT, COMMIT, True, True)), "unproven", False),
    # rule 7
    ("not held", replace(GOOD, checks=(replace(OWN, runs=("pass",)), OTHER)), "failed", True),
    ("flaky", replace(GOOD, checks=(replace(OWN, runs=("pass", "fail", "pass")), OTHER)), "failed", True),
    (
        "flaky on the baseline and never green with the change",
        replace(
            GOOD, checks=(OWN, OTHER, replace(OTHER, baseline="unjudged", baseline_flaky=True, runs=("fail",) * 5))
        ),
        "unproven",
        True,
    ),
    ("flaky other", replace(GOOD, checks=(OWN, replace(OTHER, runs=("fail", "pass")))), "failed", True),
]


@pytest.mark.parametrize(
    ("facts", "conclusion", "returns"), [row[1:] for row in BREACHES], ids=[r[0] for r in BREACHES]
)
def test_one_breach_is_enough(facts: Facts, conclusion: str, returns: bool) -> None:
    judgement = judge(facts)
    assert (judgement.conclusion, judgement.returns) == (conclusion, returns)
    assert judgement.reason


def test_a_loss_turns_failed_into_unproven_and_names_the_hop() -> None:
    lost = (Lost("legacy", "users"),)
    checks = (replace(OWN, runs=("fail", "fail"), forks=(), lost=lost), OTHER)
    judgement = judge(replace(GOOD, checks=checks, lost=lost))
    assert judgement.conclusion == "unproven"
    assert "lost at legacy, which called users" in judgement.reason
    assert not judgement.returns


def test_a_loss_at_its_own_fork_goes_back_to_the_agent() -> None:
    lost = (Lost("users", "pricing"),)
    forks = (*GOOD.forks, ForkFacts("pricing", 1, COMMIT, 0))
    checks = (replace(OWN, runs=("fail", "fail"), lost=lost), OTHER)
    judgement = judge(replace(GOOD, checks=checks, lost=lost, forks=forks))
    assert (judgement.conclusion, judgement.returns) == ("unproven", True)


def test_a_failure_that_was_asked_counts_beside_one_that_was_not() -> None:
    lost = (Lost("legacy", "users"),)
    checks = (replace(OWN, runs=("fail", "fail"), lost=lost), replace(OTHER, runs=("fail", "fail"), detail="400"))
    judgement = judge(replace(GOOD, checks=checks, lost=lost))
    assert (judgement.conclusion, judgement.returns) == ("failed", True)
    assert "'other'" in judgement.reason
    assert "400" in judgement.reason


def test_a_fork_that_nobody_reached_names_the_loss() -> None:
    facts = replace(GOOD, forks=(ForkFacts("users", 1, COMMIT, 0),), lost=(Lost("legacy", "users"),))
    assert "lost at legacy" in judge(facts).reason


def test_what_fails_on_the_baseline_too_is_noted_and_never_blocks() -> None:
    known = CheckFacts("known bug", own=False, baseline="fail", runs=("fail", "fail"))
    judgement = judge(replace(GOOD, checks=(OWN, OTHER, known)))
    assert judgement.conclusion == "verified"
    assert any("'known bug' cannot be judged" in note and "baseline's fault" in note for note in judgement.notes)


def test_static_check_red_on_the_base_too_is_noted() -> None:
    judgement = judge(replace(GOOD, static=(StaticFacts("ruff", "fail", "fail"),)))
    assert judgement.conclusion == "verified"
    assert "ruff" in judgement.notes[0]


def test_regressions_only_says_so() -> None:
    judgement = judge(replace(GOOD, checks=(OTHER,), planted=(RED,)))
    assert judgement.conclusion == "verified"
    assert "for regressions only" in judgement.reason


def test_preserve_needs_the_planted_fault() -> None:
    kept = replace(OWN, baseline="pass")
    facts = replace(GOOD, preserve=True, checks=(kept, OTHER))
    assert needs_fault(facts) == ("users",)
    assert "do not depend on users" in judge(facts).reason
    judgement = judge(replace(facts, planted=(replace(RED, turned_red="own"),)))
    assert judgement.conclusion == "verified"
    assert "1 of the ticket's checks hold as before" in judgement.reason


def test_a_check_that_turned_through_two_forks_proves_neither_alone() -> None:
    forks = (*GOOD.forks, ForkFacts("pricing", 1, COMMIT, 2))
    both = replace(OWN, forks=("pricing", "users"))
    facts = replace(GOOD, scope=ScopeFacts(("users", "pricing")), forks=forks, checks=(both, OTHER))
    assert needs_fault(facts) == ("users", "pricing")
    assert judge(facts).conclusion == "unproven"
    planted = (PlantFacts("users", "own", 1), PlantFacts("pricing", "own", 1))
    assert judge(replace(facts, planted=planted)).conclusion == "verified"


def test_flaky_that_held_is_verified_and_reported() -> None:
    judgement = judge(replace(GOOD, checks=(replace(OWN, runs=("fail", "pass", "pass")), OTHER)))
    assert judgement.conclusion == "verified"
    assert "flaky" in judgement.notes[0]


def test_what_is_flaky_on_the_baseline_and_passes_with_the_change_at_times_does_not_judge_it() -> None:
    shaky = replace(OTHER, name="shaky", baseline="unjudged", baseline_flaky=True, runs=("fail", "pass"))
    judgement = judge(replace(GOOD, checks=(OWN, OTHER, shaky)))
    assert judgement.conclusion == "verified"
    assert any("'shaky' cannot be judged: it is flaky on the baseline" in note for note in judgement.notes)


outcomes = st.sampled_from(["pass", "fail", "unjudged"])
names = st.sampled_from(["users", "pricing"])
losses = st.lists(st.builds(Lost, names, names), max_size=1).map(tuple)
mostly = st.sampled_from([0, 0, 0, 0, 1])
commits = st.sampled_from([COMMIT, COMMIT, COMMIT, BASE])
bases = st.sampled_from([BASE, BASE, BASE, COMMIT])


def some(strategy: st.SearchStrategy[Any], most: int = 2) -> st.SearchStrategy[tuple[Any, ...]]:
    return st.lists(strategy, max_size=most).map(tuple)


any_facts = st.builds(
    Facts,
    commit=st.just(COMMIT),
    base=st.just(BASE),
    judged_from=st.one_of(bases, st.none()),
    judges_intact=st.booleans(),
    scope=st.builds(
        ScopeFacts,
        services=st.lists(names, max_size=2, unique=True).map(tuple),
        altered=some(st.just("tests/a"), 1),
        added=some(st.just("tests/b"), 1),
        outside=some(st.just("x"), 1),
        submodules=some(st.just("x"), 1),
        leading_out=some(st.just("x"), 1),
    ),
    static=st.one_of(
        st.none(), some(st.builds(StaticFacts, st.just("lint"), outcomes, st.one_of(st.none(), outcomes)))
    ),
    forks=st.lists(
        st.builds(ForkFacts, names, st.just(1), st.one_of(commits, st.none()), st.integers(0, 2), st.booleans()),
        max_size=2,
        unique_by=lambda fork: fork.service,
    ).map(tuple),
    checks=st.lists(
        st.builds(
            CheckFacts,
            name=st.sampled_from(["one", "two", "three"]),
            own=st.booleans(),
            baseline=outcomes,
            runs=some(st.sampled_from(["pass", "pass", "pass", "fail", "unjudged"]), 4),
            forks=st.lists(names, max_size=2, unique=True).map(lambda found: tuple(sorted(found))),
            lost=losses,
            baseline_flaky=st.booleans(),
        ),
        max_size=3,
        unique_by=lambda check: check.name,
    ).map(tuple),
    planted=some(
        st.builds(PlantFacts, names, st.one_of(st.none(), st.sampled_from(["one", "two"])), st.integers(0, 1))
    ),
    records=st.one_of(st.none(), st.builds(RecordFacts, mostly, mostly, mostly, mostly)),
    baseline=st.one_of(st.none(), st.builds(BaselineFacts, bases, bases, st.booleans(), st.booleans())),
    repeat=st.integers(1, 3),
    preserve=st.booleans(),
    lost=losses,
)


# Few random facts are anywhere near a verdict: most parts are taken from the good case.
near_good = st.builds(
    lambda facts, kept: replace(facts, **{name: getattr(GOOD, name) for name in kept}),
    any_facts,
    st.sets(st.sampled_from([field.name for field in fields(Facts)]), min_size=10),
)


def rules_hold(facts: Facts) -> dict[str, bool]:
    """The seven rules once more, written down from the contract and not from the code that is under test."""
    own = [check for check in facts.checks if check.own]
    others = [check for check in facts.checks if not check.own]
    records, baseline = facts.records, facts.baseline

    def last_pass(check: CheckFacts, times: int) -> bool:
        return check.runs[-times:] == ("pass",) * times

    def proven(fork: ForkFacts) -> bool:
        turned = any(
            check.own
            and check.baseline == "fail"
            and last_pass(check, facts.repeat)
            and set(check.forks) == {fork.service}
            for check in facts.checks
        )
        seen = any(
            plant.service == fork.service
            and plant.served
            and any(
                check.name == plant.turned_red and set(check.runs) == {"pass"} and fork.service in check.forks
                for check in facts.checks
            )
            for plant in facts.planted
        )
        return turned or seen

    return {
        "1": bool(facts.forks)
        and all(fork.commit == facts.commit for fork in facts.forks)
        and set(facts.scope.services) <= {fork.service for fork in facts.forks},
        "2": facts.judged_from == facts.base
        and facts.judges_intact
        and not facts.scope.altered
        and not facts.scope.outside
        and not facts.scope.submodules
        and not facts.scope.leading_out
        and facts.static is not None
        and all(check.outcome == "pass" or check.base in ("fail", "unjudged") for check in facts.static),
        "3": all(check.baseline == "fail" or (facts.preserve and check.baseline == "pass") for check in own)
        and all(last_pass(check, 1) for check in facts.checks if check.own or check.baseline == "pass")
        and (bool(own) or any(check.baseline == "pass" for check in others)),
        "4": all(
            fork.alive and fork.hops > 0 and any(fork.service in check.forks for check in facts.checks) and proven(fork)
            for fork in facts.forks
        ),
        "5": records is not None
        and not (records.dropped or records.refused or records.unrouted or records.old_generation),
        "6": baseline is not None
        and baseline.healthy_before
        and baseline.healthy_after
        and baseline.version_before == baseline.version_after == facts.base,
        "7": all(last_pass(check, facts.repeat) for check in own)
        and all(
            last_pass(check, facts.repeat) or set(check.runs) == {"pass"}
            for check in others
            if check.baseline == "pass"
        )
        and all("pass" in check.runs for check in others if check.baseline_flaky),
    }


@settings(max_examples=400, deadline=None)
@given(near_good)
def test_verified_exactly_when_every_rule_holds(facts: Facts) -> None:
    broken = [rule for rule, holds in rules_hold(facts).items() if not holds]
    if judge(facts).conclusion == "verified":
        assert not broken
    elif facts.scope.services:
        assert broken


def _break_scope(facts: Facts) -> Facts:
    return replace(facts, scope=replace(facts.scope, altered=("tests/a",)))


@settings(deadline=None)
@given(near_good, st.sampled_from(["forks", "records", "baseline", "judges", "checks", "static"]))
def test_what_is_unknown_never_verifies(facts: Facts, part: str) -> None:
    without: dict[str, Callable[[Facts], Facts]] = {
        "forks": lambda f: replace(f, forks=()),
        "records": lambda f: replace(f, records=None),
        "baseline": lambda f: replace(f, baseline=None),
        "judges": lambda f: replace(f, judged_from=None),
        "checks": lambda f: replace(f, checks=()),
        "static": lambda f: replace(f, static=None),
    }
    assert judge(without[part](facts)).conclusion != "verified"


@settings(deadline=None)
@given(any_facts)
def test_protected_paths_always_need_a_human(facts: Facts) -> None:
    assert judge(_break_scope(facts)).conclusion == "needs_human"
