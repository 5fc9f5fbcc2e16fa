"""What the command line reads and says: durations, names, headers, bodies, log lines that come twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from harness.cli.asked import Asked, read_body, read_headers, read_method, read_path
from harness.cli.options import duration, sandbox_name
from harness.cli.streams import unseen
from sandbox.driver import LogLine
from tasks.errors import UsageError
from tasks.text import short_span, span


@pytest.mark.parametrize(("text", "seconds"), [("30m", 1800.0), ("90", 90.0), ("1.5h", 5400.0), ("300ms", 0.3)])
def test_durations(text: str, seconds: float) -> None:
    assert duration(text, "--ttl") == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "0", "-3", "5x", "0s", "soon"])
def test_no_durations(text: str) -> None:
    with pytest.raises(UsageError, match="--ttl") as caught:
        duration(text, "--ttl")
    assert caught.value.hint


@pytest.mark.parametrize("name", ["../up", "a/b", "", "x" * 81, "-x", "a.lock"])
def test_names_that_cannot_be(name: str) -> None:
    with pytest.raises(UsageError, match="sandbox name"):
        sandbox_name(name)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (59, "59 s"),
        (60, "1 min"),
        (185, "3 min 5 s"),
        (7800, "2 h 10 min"),
        (-1, "0 s"),
    ],
)
def test_spans(seconds: float, text: str) -> None:
    assert span(seconds) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0s"), (59.9, "59s"), (185, "3m05"), (7800, "2h10"), (90_000, "1d01"), (-3, "0s")]
)
def test_short_spans(seconds: float, text: str) -> None:
    assert short_span(seconds) == text


def test_a_traceparent_is_added_and_a_given_one_is_kept() -> None:
    added = dict(read_headers(["accept: text/plain"], with_body=True))
    assert added["accept"] == "text/plain"
    assert added["content-type"] == "application/json"
    assert added["traceparent"].startswith("00-")
    given = f"00-{'1' * 20}{'2' * 12}-{'3' * 16}-01"
    headers = read_headers([f"Traceparent: {given}", "Content-Type: text/csv"], with_body=True)
    assert headers == (("Traceparent", given), ("Content-Type", "text/csv"))
    assert Asked("GET", "/", "a", None, headers, None, 1.0).digits == "2" * 8


@pytest.mark.parametrize("text", ["no colon", ": x", "a b: c", "traceparent: 1"])
def test_no_headers(text: str) -> None:
    with pytest.raises(UsageError):
        read_headers([text], with_body=False)


def test_bodies(tmp_path: Path) -> None:
    assert read_body(None) is None
    assert read_body('{"ü": 1}') == '{"ü": 1}'.encode()
    (tmp_path / "body").write_bytes(b"\x00\xff")
    assert read_body(f"@{tmp_path / 'body'}") == b"\x00\xff"
    with pytest.raises(UsageError, match="No such file"):
        read_body(f"@{tmp_path / 'none'}")


def test_methods_and_paths() -> None:
    assert read_method("post") == "POST"
    assert read_path("/a?b=c") == "/a?b=c"
    with pytest.raises(UsageError, match="no HTTP method"):
        read_method("/users")
    with pytest.raises(UsageError, match="does not begin"):
        read_path("users")


def test_lines_that_were_seen_are_left_out_once_each() -> None:
    tick = LogLine(1.0, "tick")
    assert unseen([tick, tick, LogLine(2.0, "tock")], [tick]) == [tick, LogLine(2.0, "tock")]
