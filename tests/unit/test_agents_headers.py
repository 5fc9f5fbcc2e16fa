"""What the API's headers say of its limits."""

from __future__ import annotations

import time
from email.utils import formatdate

import pytest

from harness.agents.anthropic.headers import allowances_in, retry_after_s
from harness.agents.meter import Allowance

DATE = "Sat, 28 Nov 2026 06:00:00 GMT"


def test_all_three_resources_are_read_by_the_servers_own_clock() -> None:
    headers = {
        "date": DATE,
        "anthropic-ratelimit-requests-limit": "1000",
        "anthropic-ratelimit-requests-remaining": "999",
        "anthropic-ratelimit-requests-reset": "2026-11-28T06:00:00Z",
        "anthropic-ratelimit-input-tokens-limit": "80000",
        "anthropic-ratelimit-input-tokens-remaining": "20000",
        "anthropic-ratelimit-input-tokens-reset": "2026-11-28T06:00:45Z",
        "anthropic-ratelimit-output-tokens-limit": "16000",
        "anthropic-ratelimit-output-tokens-remaining": "0",
        "anthropic-ratelimit-output-tokens-reset": "2026-11-28T07:01:00+01:00",
        "anthropic-ratelimit-tokens-limit": "96000",
        "anthropic-ratelimit-tokens-remaining": "96000",
    }
    assert allowances_in(headers) == (
        Allowance("requests", 1000, 999, 0),
        Allowance("input_tokens", 80_000, 20_000, 45),
        Allowance("output_tokens", 16_000, 0, 60),
    )


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"limit": "1000"},
        {"limit": "many", "remaining": "5"},
        {"limit": "nan", "remaining": "5"},
        {"limit": "0", "remaining": "0"},
        {"limit": "-1", "remaining": "0"},
        {"limit": "10", "remaining": ""},
    ],
)
def test_what_cannot_be_read_is_passed_over(said: dict[str, str]) -> None:
    assert allowances_in({f"anthropic-ratelimit-requests-{name}": value for name, value in said.items()}) == ()


@pytest.mark.parametrize(
    ("remaining", "reset", "left", "full_in_s"),
    [
        ("2000", "2026-11-28T06:00:10Z", 1000, 10),
        ("-5", "soon", 0, 0),
        ("5", "2026-11-28T05:59:00Z", 5, 0),
        ("5", "", 5, 0),
    ],
)
def test_what_makes_no_sense_does_no_harm(remaining: str, reset: str, left: float, full_in_s: float) -> None:
    prefix = "anthropic-ratelimit-requests"
    headers = {"date": DATE, f"{prefix}-limit": "1000", f"{prefix}-remaining": remaining, f"{prefix}-reset": reset}
    assert allowances_in(headers) == (Allowance("requests", 1000, left, full_in_s),)


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("7", 7),
        ("1.5", 1.5),
        ("-3", 0),
        ("Sat, 28 Nov 2026 06:02:00 GMT", 120),
        ("Sat, 28 Nov 2026 05:00:00 GMT", 0),
        ("soon", None),
        ("inf", None),
        ("", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(said: str, seconds: float | None) -> None:
    assert retry_after_s({"date": DATE, "retry-after": said}) == seconds


def test_without_a_date_our_own_clock_serves() -> None:
    in_an_hour = formatdate(time.time() + 3600, usegmt=True)
    found = retry_after_s({"retry-after": in_an_hour})
    assert found is not None
    assert 3_000 < found <= 3_600
    assert retry_after_s({}) is None
