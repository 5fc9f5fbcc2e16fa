"""The verification record: an in-toto statement about one commit, in a signed DSSE envelope, as canonical bytes.

https://github.com/in-toto/attestation/blob/main/spec/v1/statement.md and
https://github.com/secure-systems-lab/dsse/blob/master/envelope.md. The same verdict signed by the same key is the same
bytes, so that making a record again changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

from securesystemslib.dsse import Envelope

from harness.submission.canonical import canonical
from harness.submission.keys import SigningKey

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
PREDICATE_TYPE: Final = "https://spurline.dev/verification/v1"
PAYLOAD_TYPE: Final = "application/vnd.in-toto+json"


def make_record(document: Mapping[str, Any], key: SigningKey) -> bytes:
    """The record of a verdict document, signed. ValueError if the document has no canonical form."""
    envelope = Envelope(canonical(statement_of(document)), PAYLOAD_TYPE, {})
    envelope.sign(key.signer)
    return canonical(envelope.to_dict()) + b"\n"


def statement_of(document: Mapping[str, Any]) -> dict[str, Any]:
    """The in-toto statement: what is said (the verdict) of which commit and tree."""
    return {
        "_type": STATEMENT_TYPE,
        "subject": subjects(document["commit"], document["tree"]),
        "predicateType": PREDICATE_TYPE,
        "predicate": {"spurline": _version(), "verdict": _stated(document)},
    }


def _stated(document: Mapping[str, Any]) -> dict[str, Any]:
    """What a record states of a verdict: what was seen on the way stays in the store, since it holds whole answers of
    services and a record goes wherever the commit goes; its digest is stated."""
    stated = {name: value for name, value in document.items() if name != "seen"}
    if "seen" in document:
        stated["seen_digest"] = hashlib.sha256(canonical(document["seen"])).hexdigest()
    return stated


def subjects(commit: str, tree: str) -> list[dict[str, Any]]:
    """Commit and tree as subjects of a statement."""
    return [
        {"name": "commit", "digest": {"gitCommit": commit}},
        {"name": "tree", "digest": {"gitTree": tree}},
    ]


def _version() -> str:
    try:
        return version("spurline")
    except PackageNotFoundError:
        return "unknown"
