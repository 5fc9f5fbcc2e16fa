"""What `doctor` found: one line a thing that was looked at, each with its way out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Level = Literal["ok", "warning", "problem"]
Kind = Literal["config", "environment"]


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """One thing that was looked at."""

    level: Level
    subject: str
    """What was looked at: `git`, `service payments`, `carriers of orders`."""
    text: str
    way_out: str = ""
    """What to do; empty where all is well."""
    kind: Kind = "environment"
    """Who has to do it: whoever writes the files, or whoever looks after the machine."""


def ok(subject: str, text: str) -> Diagnosis:
    return Diagnosis("ok", subject, text)


def warning(subject: str, text: str, way_out: str = "", kind: Kind = "environment") -> Diagnosis:
    return Diagnosis("warning", subject, text, way_out, kind)


def problem(subject: str, text: str, way_out: str = "", kind: Kind = "environment") -> Diagnosis:
    return Diagnosis("problem", subject, text, way_out, kind)


def exit_code(diagnoses: Sequence[Diagnosis]) -> int:
    """0 without problems; 2 where the files are to be mended, which comes first; else 3."""
    kinds = {diagnosis.kind for diagnosis in diagnoses if diagnosis.level == "problem"}
    return 2 if "config" in kinds else 3 if kinds else 0
