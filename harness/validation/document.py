"""The verdict document: everything that is known and concluded of one commit, as plain JSON values.

Whole numbers and texts only, so that equal documents are equal bytes; the routing key is never in it. It holds all
facts, so that anybody can judge them again: `rejudge`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from graphs.ports import Conclusion
from harness.validation.bench import Item
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
from harness.validation.results import CheckResult
from harness.validation.series import Series
from harness.validation.verdict import Judgement, judge
from harness.validation.windows import seen_in
from sandbox.hops import Lost
from sandbox.seen import Seen

SCHEMA: Final = "spurline.dev/verdict/v1"
_SEEN_HOPS: Final = 120


@dataclass(frozen=True, slots=True)
class Heading:
    """What a verdict is about."""

    run: str
    ticket: str
    iteration: int
    tree: str
    """The id of the commit's tree."""
    settings_digest: str
    sandbox: str
    generation: int | None
    began_ms: int
    ended_ms: int


def document_of(
    heading: Heading,
    facts: Facts,
    judgement: Judgement,
    evidence: str | None,
    series: Sequence[Series] = (),
    added: Mapping[str, CheckResult] | None = None,
) -> dict[str, Any]:
    """The whole document."""
    by_name = {one.item.name: one for one in series}
    return {
        "schema": SCHEMA,
        "run": heading.run,
        "ticket": heading.ticket,
        "iteration": heading.iteration,
        "commit": facts.commit,
        "base": facts.base,
        "tree": heading.tree,
        "settings_digest": heading.settings_digest,
        "judged_from": facts.judged_from,
        "judges_intact": facts.judges_intact,
        "repeat": facts.repeat,
        "preserve": facts.preserve,
        "baseline": None if facts.baseline is None else asdict(facts.baseline),
        "sandbox": {"name": heading.sandbox, "generation": heading.generation},
        "scope": _listed(asdict(facts.scope)),
        "static": None if facts.static is None else [asdict(one) for one in facts.static],
        "forks": [asdict(fork) for fork in facts.forks],
        "checks": [_check(check, by_name[check.name]) for check in facts.checks],
        "seen": _seen([by_name[check.name] for check in facts.checks]),
        "planted": [asdict(plant) for plant in facts.planted],
        "records": None if facts.records is None else _listed(asdict(facts.records)),
        "lost": [asdict(lost) for lost in facts.lost],
        "added": [
            {"name": name, "outcome": result.outcome, "detail": result.detail} for name, result in (added or {}).items()
        ],
        "conclusion": judgement.conclusion,
        "reason": judgement.reason,
        "returns": judgement.returns,
        "notes": list(judgement.notes),
        "evidence": evidence,
        "evidence_digest": None if evidence is None else hashlib.sha256(evidence.encode()).hexdigest(),
        "began_ms": heading.began_ms,
        "ended_ms": heading.ended_ms,
    }


def seen_of(document: Mapping[str, Any]) -> dict[str, tuple[Seen, Seen]]:
    """By name of check, what was seen of it on the baseline and in the sandbox; not of all, and of none in documents of
    earlier versions. KeyError or TypeError where it is something else."""
    return {
        one["check"]: (Seen.from_json(one["baseline"]), Seen.from_json(one["sandbox"]))
        for one in document.get("seen", ())
    }


def facts_of(document: Mapping[str, Any]) -> Facts:
    """The facts that a document states; KeyError, TypeError or ValueError if it is none."""
    static, records, baseline = document["static"], document["records"], document["baseline"]
    return Facts(
        commit=document["commit"],
        base=document["base"],
        judged_from=document["judged_from"],
        judges_intact=document["judges_intact"],
        scope=ScopeFacts(**_tupled(document["scope"])),
        static=None if static is None else tuple(StaticFacts(**one) for one in static),
        forks=tuple(ForkFacts(**fork) for fork in document["forks"]),
        checks=tuple(_check_facts(check) for check in document["checks"]),
        planted=tuple(PlantFacts(**plant) for plant in document["planted"]),
        records=None if records is None else RecordFacts(**_tupled(records)),
        baseline=None if baseline is None else BaselineFacts(**baseline),
        repeat=document["repeat"],
        preserve=document["preserve"],
        lost=_lost(document["lost"]),
    )


def rejudge(document: Mapping[str, Any]) -> Conclusion:
    """What the stated facts come to; KeyError, TypeError or ValueError where the document states none."""
    return judge(facts_of(document)).conclusion


def _check(check: CheckFacts, series: Series) -> dict[str, Any]:
    return {
        "name": check.name,
        "kind": series.item.check.kind,
        "digest": series.item.digest,
        "definition": _definition(series.item),
        "own": check.own,
        "baseline": check.baseline,
        "baseline_detail": check.baseline_detail,
        "baseline_flaky": check.baseline_flaky,
        "sandbox": check.runs[-1] if check.runs else "unjudged",
        "runs": list(check.runs),
        "flaky": check.flaky,
        "forks": list(check.forks),
        "lost": [asdict(lost) for lost in check.lost],
        "unasked": list(check.unasked),
        "passed_over": list(check.passed_over),
        "detail": check.detail,
        "milliseconds": [run.result.milliseconds for run in series.runs],
    }


def _seen(series: Sequence[Series]) -> list[dict[str, Any]]:
    """What was seen of checks, those first that do not pass everywhere; of the others only the way, while it is short.
    A series without runs was not seen."""
    kept, hops = [], 0
    for one in sorted((one for one in series if one.runs), key=_passes_everywhere):
        run, quiet = one.decisive, _passes_everywhere(one)
        sandbox = seen_in(run.window, run.result, one.baseline.failures)
        hops += len(sandbox.hops)
        if quiet and hops > _SEEN_HOPS:
            break
        baseline = Seen() if quiet else one.baseline.seen.beside(sandbox)
        found = Seen(sandbox.hops) if quiet else sandbox
        kept.append({"check": one.item.name, "baseline": baseline.to_json(), "sandbox": found.to_json()})
    return kept


def _passes_everywhere(series: Series) -> bool:
    return series.baseline.passed and all(run.result.passed for run in series.runs)


def _definition(item: Item) -> dict[str, Any]:
    """The check as it was written, with floats as text: whole numbers are the same bytes everywhere."""
    data: dict[str, Any] = item.check.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    return {key: _whole(value) for key, value in data.items() if key != "name"}


def _whole(value: Any) -> Any:
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, dict):
        return {key: _whole(one) for key, one in value.items()}
    return [_whole(one) for one in value] if isinstance(value, list) else value


def _check_facts(data: Mapping[str, Any]) -> CheckFacts:
    return CheckFacts(
        name=data["name"],
        own=data["own"],
        baseline=data["baseline"],
        runs=tuple(data["runs"]),
        forks=tuple(data["forks"]),
        lost=_lost(data["lost"]),
        # Documents of earlier versions do not have these.
        unasked=tuple(data.get("unasked", ())),
        passed_over=tuple(data.get("passed_over", ())),
        baseline_flaky=data.get("baseline_flaky", False),
        detail=data["detail"],
        baseline_detail=data["baseline_detail"],
    )


def _lost(data: Sequence[Mapping[str, Any]]) -> tuple[Lost, ...]:
    return tuple(Lost(**one) for one in data)


def _listed(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: list(value) if isinstance(value, tuple) else value for key, value in data.items()}


def _tupled(data: Mapping[str, Any]) -> dict[str, Any]:
    return {key: tuple(value) if isinstance(value, list) else value for key, value in data.items()}
