"""Records: signed, canonical, checked offline; no byte of one can be altered."""

from __future__ import annotations

import base64
import hashlib
import json
import stat
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope

from harness.submission import SigningKey, load_public_key, make_record, verify_file, verify_record
from harness.submission.canonical import canonical, parse
from harness.submission.record import PAYLOAD_TYPE, statement_of
from tasks.errors import StoreError, UsageError

DOCUMENT: dict[str, Any] = {
    "commit": "c" * 40,
    "tree": "d" * 40,
    "base": "b" * 40,
    "conclusion": "verified",
    "reason": "1 of the ticket's checks turned from red to green",
    "evidence": None,
    "evidence_digest": None,
    "checks": [{"name": "ü", "runs": ["pass", "pass"]}],
}


def agrees(document: Any) -> str:
    return "verified"


@pytest.fixture(scope="module")
def key(tmp_path_factory: pytest.TempPathFactory) -> SigningKey:
    return SigningKey.of(tmp_path_factory.mktemp("keys"))


@pytest.fixture(scope="module")
def record(key: SigningKey) -> bytes:
    return make_record(DOCUMENT, key)


def resigned(statement: Any, key: SigningKey, kind: str = PAYLOAD_TYPE) -> bytes:
    envelope = Envelope(canonical(statement), kind, {})
    envelope.sign(key.signer)
    return canonical(envelope.to_dict()) + b"\n"


def test_a_record_is_sound_and_the_same_bytes_each_time(key: SigningKey, record: bytes) -> None:
    found = verify_record(record, [key.public], agrees)
    assert found.sound
    assert found.verified
    assert found.key == key.public.keyid
    assert found.verdict == DOCUMENT
    assert make_record(DOCUMENT, key) == record


def test_what_was_seen_of_services_is_stated_by_its_digest_alone(key: SigningKey, record: bytes) -> None:
    seen = [{"check": "a", "baseline": {"answer": "the card of Mrs Smith"}, "sandbox": {"answer": "none"}}]
    one, other = make_record({**DOCUMENT, "seen": seen}, key), make_record({**DOCUMENT, "seen": []}, key)
    assert b"Smith" not in base64.b64decode(json.loads(one)["payload"])
    assert verify_record(one, [key.public], agrees).sound
    digests = [verify_record(made, [key.public], agrees).verdict["seen_digest"] for made in (one, other)]
    assert digests[0] == hashlib.sha256(canonical(seen)).hexdigest() != digests[1]


def test_it_is_an_in_toto_statement_in_a_dsse_envelope(record: bytes) -> None:
    envelope = json.loads(record)
    statement = json.loads(base64.b64decode(envelope["payload"]))
    assert envelope["payloadType"] == "application/vnd.in-toto+json"
    assert statement["_type"] == "https://in-toto.io/Statement/v1"
    assert statement["predicateType"] == "https://spurline.dev/verification/v1"
    assert statement["subject"][0]["digest"] == {"gitCommit": "c" * 40}


def test_every_altered_byte_fails(key: SigningKey, record: bytes) -> None:
    for index in range(len(record)):
        for bit in (0x01, 0x20):
            altered = bytearray(record)
            altered[index] ^= bit
            assert not verify_record(bytes(altered), [key.public], agrees).sound, index


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_cut_inserted_and_doubled_bytes_fail(key: SigningKey, record: bytes, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, len(record)))
    end = data.draw(st.integers(at, len(record)))
    inserted = data.draw(st.sampled_from([b"", b" ", b"\n", b"\t", b"=", b"A", b"{}", record[at:end]]))
    altered = record[:at] + inserted + record[end:]
    assert verify_record(altered, [key.public], agrees).sound == (altered == record)


@settings(deadline=None)
@given(st.binary(max_size=200))
def test_anything_else_is_no_record(key: SigningKey, raw: bytes) -> None:
    assert not verify_record(raw, [key.public], agrees).sound


def test_a_field_beside_the_signature_fails(key: SigningKey, record: bytes) -> None:
    envelope = json.loads(record)
    envelope["signatures"][0]["comment"] = "x"
    assert not verify_record(canonical(envelope) + b"\n", [key.public], agrees).sound


def test_an_unknown_key_is_named(record: bytes, key: SigningKey, tmp_path: Path) -> None:
    found = verify_record(record, [SigningKey.of(tmp_path).public], agrees)
    assert not found.sound
    assert key.public.keyid in found.reason
    assert found.verdict == {}


def test_a_signature_of_another_key_under_a_known_name_fails(record: bytes, key: SigningKey, tmp_path: Path) -> None:
    envelope = json.loads(make_record(DOCUMENT, SigningKey.of(tmp_path)))
    envelope["signatures"][0]["keyid"] = key.public.keyid
    assert "signature does not hold" in verify_record(canonical(envelope) + b"\n", [key.public], agrees).reason


def test_a_verified_that_its_own_facts_do_not_bear_out_fails(key: SigningKey, record: bytes) -> None:
    found = verify_record(record, [key.public], lambda document: "unproven")
    assert not found.sound
    assert "its own facts come to 'unproven'" in found.reason


def test_a_record_of_another_commit_than_its_subject_fails(key: SigningKey) -> None:
    statement = statement_of(DOCUMENT)
    statement["subject"][0]["digest"]["gitCommit"] = "e" * 40
    assert "another commit" in verify_record(resigned(statement, key), [key.public], agrees).reason


def test_other_statements_are_no_records(key: SigningKey) -> None:
    statement = {**statement_of(DOCUMENT), "predicateType": "https://slsa.dev/provenance/v1"}
    assert not verify_record(resigned(statement, key), [key.public], agrees).sound
    assert not verify_record(resigned(["no statement"], key), [key.public], agrees).sound
    assert not verify_record(resigned(statement_of(DOCUMENT), key, "text/plain"), [key.public], agrees).sound


def test_altered_evidence_fails(key: SigningKey) -> None:
    document = {**DOCUMENT, "evidence": "another", "evidence_digest": "0" * 64}
    assert "evidence" in verify_record(make_record(document, key), [key.public], agrees).reason


def test_a_sound_record_may_say_failed(key: SigningKey) -> None:
    found = verify_record(make_record({**DOCUMENT, "conclusion": "failed"}, key), [key.public], agrees)
    assert found.sound
    assert not found.verified


def test_key_files_are_private_and_stay(tmp_path: Path) -> None:
    key = SigningKey.of(tmp_path / "keys")
    assert stat.S_IMODE((tmp_path / "keys/signing.pem").stat().st_mode) == 0o600
    assert SigningKey.of(tmp_path / "keys").public == key.public
    assert load_public_key(tmp_path / "keys/signing.pub").keyid == key.public.keyid
    assert sorted(path.name for path in (tmp_path / "keys").iterdir()) == ["signing.pem", "signing.pub"]


def test_many_who_make_the_key_at_once_get_one(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        keys = list(pool.map(lambda _: SigningKey.of(tmp_path / "keys").public.keyid, range(16)))
    assert len(set(keys)) == 1
    assert load_public_key(tmp_path / "keys/signing.pub").keyid == keys[0]


def test_a_key_that_others_can_read_is_refused(tmp_path: Path) -> None:
    SigningKey.of(tmp_path)
    (tmp_path / "signing.pem").chmod(0o644)
    with pytest.raises(StoreError, match="others can read"):
        SigningKey.of(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"])
def test_bad_public_keys_are_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "key.pub"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UsageError, match=r"key\.pub") as caught:
        load_public_key(path)
    assert caught.value.hint


def test_what_never_ends_is_too_large_for_a_record(key: SigningKey) -> None:
    with pytest.raises(UsageError, match="too large"):
        verify_file(Path("/dev/zero"), [key.public], agrees)


def test_a_missing_record_is_named(tmp_path: Path, key: SigningKey) -> None:
    with pytest.raises(UsageError, match=r"record\.json"):
        verify_file(tmp_path / "record.json", [key.public], agrees)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)
@given(json_values)
def test_canonical_bytes_read_back_as_the_value(value: Any) -> None:
    try:
        data = canonical(value)
    except UnicodeEncodeError:
        return
    assert parse(data) == value


@pytest.mark.parametrize("value", [1.5, float("nan"), {1: 2}, {"a": {1.0}}, b"x"])
def test_what_has_no_canonical_form_is_refused(value: Any) -> None:
    with pytest.raises(ValueError, match=r"canonical|text"):
        canonical(value)


@pytest.mark.parametrize("data", [b'{"b":1,"a":2}', b'{"a": 1}', b'{"a":1,"a":1}', b"1.0", b"NaN", b'"\\u0041"'])
def test_other_spellings_are_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"canonical"):
        parse(data)
