"""`spurline verify` offline: a whole record passes, an altered byte, another key or another commit does not."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from harness.submission import SigningKey, make_record
from harness.validation.facts import BaselineFacts, ForkFacts, RecordFacts, ScopeFacts

Spurline = Callable[..., Any]

COMMIT, BASE, TREE = "c" * 40, "b" * 40, "d" * 40


def verdict(**changed: Any) -> dict[str, Any]:
    """A verdict document whose facts come to 'verified'."""
    scope = {key: list(value) for key, value in asdict(ScopeFacts(services=("users",))).items()}
    records = asdict(RecordFacts(dropped=0, refused=0, unrouted=0, old_generation=0))
    check = {
        "name": "users have a profile",
        "own": True,
        "baseline": "fail",
        "sandbox": "pass",
        "runs": ["pass", "pass"],
        "flaky": False,
        "forks": ["users"],
        "lost": [],
        "detail": "",
        "baseline_detail": "404",
    }
    return {
        "commit": COMMIT,
        "base": BASE,
        "tree": TREE,
        "run": "r1",
        "ticket": "users-v2",
        "judged_from": BASE,
        "judges_intact": True,
        "repeat": 2,
        "preserve": False,
        "baseline": asdict(BaselineFacts(BASE, BASE, healthy_before=True, healthy_after=True)),
        "scope": scope,
        "static": [],
        "forks": [asdict(ForkFacts("users", 1, COMMIT, hops=2))],
        "checks": [check],
        "planted": [],
        "records": {**records, "where": []},
        "lost": [],
        "conclusion": "verified",
        "reason": "1 check of the ticket's own turned green",
        "evidence": None,
        "evidence_digest": None,
        **changed,
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A folder with settings and a signing key; `verify` reads no more of a project."""
    (tmp_path / "spurline.yaml").write_text("project: t\n")
    (tmp_path / ".spurline").mkdir()
    SigningKey.of(tmp_path / ".spurline" / "keys")
    return tmp_path


def written(project: Path, document: dict[str, Any]) -> Path:
    path = project / "record.json"
    path.write_bytes(make_record(document, SigningKey.of(project / ".spurline" / "keys")))
    return path


def test_a_whole_record_of_a_verified_commit(spurline: Spurline, project: Path) -> None:
    written(project, verdict())
    done = spurline("verify", "record.json", "--commit", COMMIT, "--json", cwd=project)
    (found,) = done.objects
    assert (done.code, found["verified"], found["sound"], found["commit"]) == (0, True, True, COMMIT)
    shown = spurline("verify", "record.json", cwd=project)
    assert shown.code == 0
    assert "whole, signed, consistent" in shown.out
    assert "users have a profile" in shown.out


def test_a_sound_record_of_a_commit_that_is_not_verified(spurline: Spurline, project: Path) -> None:
    evidence = "it answered 400"
    digest = hashlib.sha256(evidence.encode()).hexdigest()
    written(project, verdict(conclusion="failed", evidence=evidence, evidence_digest=digest))
    done = spurline("verify", "record.json", "--json", cwd=project)
    (found,) = done.objects
    assert (done.code, found["verified"], found["sound"], found["conclusion"]) == (1, False, True, "failed")


@pytest.mark.parametrize("place", [0, 40, -40])
def test_an_altered_byte(spurline: Spurline, project: Path, place: int) -> None:
    path = written(project, verdict())
    content = bytearray(path.read_bytes())
    content[place] ^= 1
    path.write_bytes(content)
    done = spurline("verify", "record.json", cwd=project)
    assert done.code == 1
    assert "users have a profile" not in done.out


def test_another_commit(spurline: Spurline, project: Path) -> None:
    written(project, verdict())
    done = spurline("verify", "record.json", "--commit", BASE, cwd=project)
    assert done.code == 1
    assert f"it speaks of commit {COMMIT}, not of {BASE}" in done.out


def test_a_key_that_nobody_trusts(spurline: Spurline, project: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    written(project, verdict())
    elsewhere = tmp_path_factory.mktemp("other")
    SigningKey.of(elsewhere)
    done = spurline("verify", "record.json", "--key", str(elsewhere / "signing.pub"), cwd=project)
    assert done.code == 1
    assert "signed by an unknown key" in done.out


def test_outside_of_a_project_a_key_must_be_named(spurline: Spurline, project: Path, tmp_path: Path) -> None:
    record = written(project, verdict())
    outside = tmp_path / "outside"
    outside.mkdir()
    (project / "spurline.yaml").unlink()
    refused = spurline("verify", str(record), cwd=outside)
    assert refused.code == 2
    assert "--key FILE" in refused.err
    trusted = project / ".spurline" / "keys" / "signing.pub"
    assert spurline("verify", str(record), "--key", str(trusted), cwd=outside).code == 0
    missing = spurline("verify", "none.json", "--key", str(trusted), cwd=outside)
    assert missing.code == 2
    assert "'none.json' cannot be read" in missing.err
