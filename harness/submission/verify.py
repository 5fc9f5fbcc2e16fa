"""Checks a verification record offline: its bytes, its signature, and whether what it concludes follows from its facts.

Nothing of a record is believed before its signature holds.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from securesystemslib.dsse import Envelope
from securesystemslib.exceptions import UnverifiedSignatureError
from securesystemslib.signer import SSlibKey  # type: ignore[attr-defined]  # re-exported silently

from harness.submission.canonical import canonical, parse
from harness.submission.record import PAYLOAD_TYPE, PREDICATE_TYPE, STATEMENT_TYPE, subjects
from tasks.errors import UsageError

Rejudge = Callable[[Mapping[str, Any]], str]
"""Judges a verdict document's facts again: its conclusion; KeyError, TypeError or ValueError where it states none."""
_SIZE_LIMIT_BYTES: Final = 32 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Verification:
    """What is to be thought of a record."""

    sound: bool
    """Whether the record is whole, signed by a known key, and consistent."""
    reason: str
    """One line: why not, or what it says."""
    key: str | None = None
    """The fingerprint of the key that signed, or is said to have."""
    verdict: Mapping[str, Any] = field(default_factory=dict, repr=False)
    """The verdict document; empty unless the signature holds."""

    @property
    def verified(self) -> bool:
        """Whether a sound record says that its commit is verified."""
        return self.sound and self.verdict.get("conclusion") == "verified"


class _UnsoundError(Exception):
    def __init__(self, reason: str, key: str | None = None) -> None:
        super().__init__(reason)
        self.reason, self.key = reason, key


def verify_file(path: Path, keys: Sequence[SSlibKey], rejudge: Rejudge) -> Verification:
    """Check the record in a file. UsageError where the file cannot be read."""
    try:
        with path.open("rb") as file:
            # What has no size, or does not tell it, may go on for ever.
            raw = file.read(_SIZE_LIMIT_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"{str(path)!r} cannot be read: {error.strerror}",
            hint="records lie in .spurline/runs/<run>/<ticket>/record.json",
        ) from None
    if len(raw) > _SIZE_LIMIT_BYTES:
        raise UsageError(f"{str(path)!r} is too large for a record", hint="give a record.json of a run")
    return verify_record(raw, keys, rejudge)


def verify_record(raw: bytes, keys: Sequence[SSlibKey], rejudge: Rejudge) -> Verification:
    """Check the record's bytes against the known keys. Never raises for what a record may hold."""
    key: str | None = None
    verdict: Mapping[str, Any] = {}
    try:
        envelope = _envelope(raw)
        key = _signed(envelope, keys)
        statement = _statement(envelope.payload)
        verdict = statement["predicate"]["verdict"]
        _consistent(statement, verdict, rejudge)
    except _UnsoundError as error:
        return Verification(False, error.reason, error.key or key, verdict)
    commit, base = str(verdict["commit"])[:12], str(verdict["base"])[:12]
    return Verification(True, f"{verdict['conclusion']}: {commit} on {base}, {verdict['reason']}", key, verdict)


def _envelope(raw: bytes) -> Envelope:
    try:
        if not raw.endswith(b"\n"):
            raise ValueError("its end is missing")
        data = parse(raw[:-1])
        envelope = Envelope.from_dict(json.loads(raw))
        same = canonical(envelope.to_dict()) == raw[:-1]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _UnsoundError(f"it is no record, or was altered: {error}") from None
    plain = all(set(signature) == {"keyid", "sig"} for signature in data["signatures"])
    if not same or not plain or set(data) != {"payload", "payloadType", "signatures"}:
        raise _UnsoundError("it was altered: it is not as it was written")
    if envelope.payload_type != PAYLOAD_TYPE:
        raise _UnsoundError(f"it is of another kind: {envelope.payload_type!r}")
    return envelope


def _signed(envelope: Envelope, keys: Sequence[SSlibKey]) -> str:
    if len(envelope.signatures) != 1:
        raise _UnsoundError(f"it has {len(envelope.signatures)} signatures instead of one")
    (signature,) = envelope.signatures.values()
    known = {key.keyid: key for key in keys}
    if signature.keyid not in known:
        raise _UnsoundError(f"it is signed by an unknown key, {signature.keyid}", signature.keyid)
    try:
        known[signature.keyid].verify_signature(signature, envelope.pae())
    except UnverifiedSignatureError:
        raise _UnsoundError("it was altered: the signature does not hold", signature.keyid) from None
    return str(signature.keyid)


def _statement(payload: bytes) -> Mapping[str, Any]:
    try:
        statement = parse(payload)
        kinds = statement["_type"], statement["predicateType"]
        verdict = statement["predicate"]["verdict"]
        subject = subjects(verdict["commit"], verdict["tree"])
        complete = {"conclusion", "reason", "base", "evidence", "evidence_digest"} <= set(verdict)
    except (ValueError, KeyError, TypeError) as error:
        raise _UnsoundError(f"it states nothing that can be read: {error!r}") from None
    if kinds != (STATEMENT_TYPE, PREDICATE_TYPE) or not complete:
        raise _UnsoundError("it is a statement of another kind")
    if statement["subject"] != subject:
        raise _UnsoundError("it speaks of another commit than its verdict does")
    found: Mapping[str, Any] = statement
    return found


def _consistent(statement: Mapping[str, Any], verdict: Mapping[str, Any], rejudge: Rejudge) -> None:
    evidence = verdict["evidence"]
    digest = None if evidence is None else hashlib.sha256(str(evidence).encode()).hexdigest()
    if digest != verdict["evidence_digest"]:
        raise _UnsoundError("its evidence is not what its digest says")
    try:
        conclusion = rejudge(verdict)
    except (KeyError, TypeError, ValueError) as error:
        raise _UnsoundError(f"its facts cannot be judged again: {error!r}") from None
    # Without the forks' failure in it, only a 'verified' must follow from the facts alone.
    if verdict["conclusion"] == "verified" and conclusion != "verified":
        raise _UnsoundError(f"it says 'verified', and its own facts come to {conclusion!r}")
