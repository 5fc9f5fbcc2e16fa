"""Redaction: secrets and keys go, what was JSON stays JSON, and no input makes it slow or breaks it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sandbox.exchanges import BODY_LIMIT_BYTES, REDACTED, body_text, redact, redact_headers

KEY = "0123456789abcdef"

JSON_BODIES: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"password": "hunter2", "user": 7}, {"password": REDACTED, "user": 7}),
    ({"password": 'a"b\\', "x": [1]}, {"password": REDACTED, "x": [1]}),
    ({"access_token": "x y", "b": "t"}, {"access_token": REDACTED, "b": "t"}),
    ({"pin": {"api-key": 1234}, "n": None}, {"pin": {"api-key": REDACTED}, "n": None}),
    ({"credentials": {"a": "x}]y", "b": ['"{']}, "n": 1}, {"credentials": REDACTED, "n": 1}),
    ({"secrets": ["a b", "c"], "n": 1}, {"secrets": REDACTED, "n": 1}),
    ({"password": None, "token": "", "secret": False}, {"password": None, "token": "", "secret": False}),
    ({"input_tokens": 12, "max_tokens": 5}, {"input_tokens": 12, "max_tokens": 5}),
    ({"error": "token: abc expired", "b": 2}, {"error": f"token: {REDACTED} expired", "b": 2}),
    ({"log": "Authorization: Bearer abc.def\nnext", "b": 2}, {"log": f"Authorization: {REDACTED}\nnext", "b": 2}),
    (
        {"error": "the token is missing", "b": "no password given"},
        {"error": "the token is missing", "b": "no password given"},
    ),
]


@pytest.mark.parametrize(("document", "expected"), JSON_BODIES)
@pytest.mark.parametrize("indent", [None, 2])
def test_json_stays_json(document: dict[str, Any], expected: dict[str, Any], indent: int | None) -> None:
    assert json.loads(redact(json.dumps(document, indent=indent))) == expected
    # A body that carries a document as text, as logs and queues do.
    wrapped = json.dumps({"message": json.dumps(document), "after": 1})
    unwrapped = json.loads(redact(wrapped))
    assert unwrapped["after"] == 1
    assert json.loads(unwrapped["message"]) == expected


SECRETS = [
    "password=hunter2hunter2 and more",
    "PASSWORD = 'hunter2hunter2'",
    "{'password': 'hunter2hunter2 with spaces', 'x': 1}",
    "db_password: hunter2hunter2",
    "?token=hunter2hunter2&page=2",
    "GET /x HTTP/1.1\nAuthorization: Bearer hunter2hunter2\nX: 1",
    "authorization: Basic hunter2hunter2==",
    'curl -H "Authorization: Bearer hunter2hunter2" http://x',
    "Cookie: session=hunter2hunter2; other=hunter2hunter2",
    "Set-Cookie: sid=hunter2hunter2; Path=/",
    "sent Bearer hunter2hunter2 to it",
    "postgres://app:hunter2hunter2@db/shop",
    "sk-hunter2hunter2hunter2",
    "ghp_hunter2hunter2hunter2",
    "github_pat_hunter2hunter2hunter2",
    "eyJhunter2hunter2.eyJhunter2hunter2.hunter2hunter2",
    "-----BEGIN RSA PRIVATE KEY-----\nhunter2hunter2\n-----END RSA PRIVATE KEY-----\nafter",
    "-----BEGIN PRIVATE KEY-----\nhunter2hunter2",
    '{"password": "hunter2hunter2 cut off he',
    '{"clientSecret":{"value":"hunter2hunter2"}}',
    "api_key => hunter2hunter2",
]


@pytest.mark.parametrize("text", SECRETS)
def test_secrets_are_gone_and_redacting_again_changes_nothing(text: str) -> None:
    shown = redact(text)
    assert "hunter2hunter2" not in shown
    assert REDACTED in shown
    assert redact(shown) == shown


@pytest.mark.parametrize(
    "text",
    [
        "Unexpected token: {\n  at line 3",
        "token:\n",
        "tokenize: yes",
        "http://127.0.0.1:9000/users@home",
        "basic auth is not supported",
        "the bearer of this",
        "commit 5b17",
        "",
    ],
)
def test_plain_evidence_stays_as_it_is(text: str) -> None:
    assert redact(text) == text


@pytest.mark.parametrize(
    "text",
    [
        f"x-spurline-key: {KEY}",
        json.dumps({"x-spurline-key": KEY, "b": 1}),
        json.dumps({"headers": json.dumps({"X-Spurline-Key": KEY})}),
        f"baggage: a=b,spurline-key={KEY};p=1,c=d",
        f"tracestate: spurline-key={KEY},vendor=x",
        f"/echo?baggage=spurline-key%3D{KEY}",
        f"00-5b17{KEY}aaaaaaaaaaaa-0102030405060708-01",
        f"spurline-key = '{KEY.upper()}'",
    ],
)
def test_keys_are_masked_in_every_carrier(text: str) -> None:
    shown = redact(text)
    assert KEY not in shown.lower()
    assert f"{KEY[:4]}…" in shown
    assert redact(shown) == shown
    if text.startswith("{"):
        json.loads(shown)


def test_headers() -> None:
    shown = redact_headers(
        [
            ("Authorization", "Bearer x"),
            ("X-Spurline-Key", KEY),
            ("baggage", f"spurline-key={KEY}"),
            ("traceparent", f"00-5b17{KEY}aaaaaaaaaaaa-0102030405060708-01"),
            ("Accept", "a"),
            ("Accept", "b"),
            ("Set-Cookie", "a=b"),
            ("Set-Cookie", "c=d"),
            ("X-Session-Token", "abc"),
            ("Location", "http://u:secret1@x/"),
        ]
    )
    assert shown["Authorization"] == REDACTED
    assert shown["Accept"] == "a, b"
    assert shown["Set-Cookie"] == f"{REDACTED}, {REDACTED}"
    assert shown["X-Spurline-Key"] == "0123…"
    assert KEY not in str(shown)
    assert "abc" not in str(shown)
    assert "secret1" not in str(shown)


def test_bodies() -> None:
    assert body_text(b"") == ("", False)
    assert body_text("ü".encode()) == ("ü", False)
    assert body_text(b"\xff\xfe\x00") == ("[3 bytes that are no text]", False)
    text, cut = body_text(b"x" * (BODY_LIMIT_BYTES + 1))
    assert (len(text), cut) == (BODY_LIMIT_BYTES, True)


@given(st.text(alphabet="aü漢🙂", min_size=1, max_size=40), st.integers(min_value=1, max_value=60))
def test_a_cut_never_breaks_a_character(text: str, limit: int) -> None:
    shown, cut = body_text(text.encode(), limit)
    assert text.startswith(shown)
    assert cut == (len(text.encode()) > limit)
    assert len(shown.encode()) > limit - 4 or not cut


@given(st.binary(max_size=200))
def test_any_body_has_a_text(body: bytes) -> None:
    body_text(body)


WORDS = [
    *("password", "token", "tokens", "secret", "Bearer ", "Authorization: ", "://", "@", "eyJ", ".", "a1", "null"),
    *("spurline-key", "5b17", KEY, "-----BEGIN PRIVATE KEY-----", REDACTED, "sk-", "=>", "%3D"),
    *"\"'\\{}[]:=,; \n\r\t",
]
PIECES = st.lists(st.sampled_from(WORDS), max_size=40).map("".join)


@given(PIECES | st.text(max_size=60))
def test_no_text_breaks_it_and_no_key_comes_through(text: str) -> None:
    shown = redact(text)
    for carrier in ("5b17", "spurline-key=", "spurline-key: ", "spurline-key%3D"):
        assert f"{carrier}{KEY}" not in shown


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(alphabet="ab \\\"'{}[]:,=\n", max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["password", "a", "token", "tokens", "x-secret", "api_key"]), inner, max_size=4
        )
    ),
    max_leaves=15,
)


@given(JSON)
def test_any_json_stays_json_and_its_secrets_go(document: object) -> None:
    shown = json.loads(redact(json.dumps(document)))
    assert_blank(document, shown)


def assert_blank(before: Any, after: Any, *, secret: bool = False) -> None:
    if secret:
        count = isinstance(before, int) and after == before
        nothing = before is None or isinstance(before, bool) or (isinstance(before, str) and not before.strip("\\\"'"))
        assert after == REDACTED or nothing or count
    elif isinstance(before, dict):
        assert list(before) == list(after)
        for name in before:
            assert_blank(before[name], after[name], secret=name != "a")
    elif isinstance(before, list):
        assert len(before) == len(after)
        for one, other in zip(before, after, strict=True):
            assert_blank(one, other)
    else:
        assert after == before


LENGTH = 400_000
SLOW = [
    *(
        "a",
        "password",
        'password"',
        'password="',
        'password=\\"',
        "-eyJ",
        "eyJaaaaaaaaa.",
        '"token": {',
        '"',
        "\\",
        "://a:",
    ),
    *(
        "-----BEGIN PRIVATE KEY-----",
        "bearer ",
        "cookie:",
        "5b17",
        "sk-",
        "token:'",
        '"token":["',
        'token="a\\\\\\"',
        "\n",
    ),
]


@pytest.mark.parametrize("piece", SLOW)
def test_long_text_is_done_in_time_that_grows_with_its_length_only(piece: str) -> None:
    # Quadratic work on this takes many minutes: the time-out of every test tells.
    redact(piece * (LENGTH // len(piece)))
    redact("password" + piece * (LENGTH // 4 // len(piece)))
