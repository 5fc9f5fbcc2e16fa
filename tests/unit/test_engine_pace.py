"""What is found out about a provider: its buckets, how many calls at once, and how fast."""

from __future__ import annotations

import pytest

from harness.agents.meter import Allowance
from harness.engine.bucket import LATE_S, Bucket, Mark
from harness.engine.pace import RAMP_DOUBLES_S, RAMP_PER_S, Pace, Window


def requests(limit: float, remaining: float, full_in_s: float = 0.0) -> Allowance:
    return Allowance("requests", limit, remaining, full_in_s)


def test_a_bucket_without_a_known_limit_holds_nobody() -> None:
    bucket = Bucket()
    for _ in range(1_000):
        assert bucket.wait_s(5.0, 1e9) == 0
        bucket.take(5.0, 1e9)


def test_what_was_said_holds_from_then_on() -> None:
    bucket = Bucket()
    mark = bucket.take(100.0, 500)
    bucket.told(101.0, requests(6_000, 1_000), mark)
    assert bucket.wait_s(101.0, 1_100) == 0, "1,000 then, and 100 that refilled in the second since"
    assert bucket.wait_s(101.0, 1_200) == pytest.approx(1.0)
    bucket.take(101.0, 1_100)
    assert bucket.wait_s(101.0, 100) == pytest.approx(1.0)
    assert bucket.wait_s(102.0, 100) == 0
    assert bucket.wait_s(102.0, 1e9) == pytest.approx(59.0), "more than it holds waits for a full one"


def test_what_was_taken_since_is_not_in_what_was_said() -> None:
    bucket = Bucket()
    mark = bucket.take(0.0, 1)
    bucket.take(1.0, 300)
    bucket.told(1.0, requests(6_000, 1_000), mark)
    assert bucket.wait_s(1.0, 800) == 0
    assert bucket.wait_s(1.0, 801) > 0


def test_less_is_believed_at_once_and_more_little_by_little() -> None:
    bucket = Bucket()
    bucket.told(0.0, requests(6_000, 1_000), Mark(0.0, 0.0))
    bucket.told(0.0, requests(6_000, 500), Mark(0.0, 0.0))
    assert bucket.wait_s(0.0, 501) > 0
    bucket.told(0.0, requests(6_000, 1_500), Mark(0.0, 0.0))
    assert (bucket.wait_s(0.0, 600), bucket.wait_s(0.0, 601) > 0) == (0, True)


def test_a_correction_counts_for_what_is_left_alone() -> None:
    bucket = Bucket()
    mark = bucket.take(0.0, 100)
    bucket.told(0.0, requests(6_000, 1_000), mark)
    bucket.correct(0.0, -100)
    assert (bucket.wait_s(0.0, 1_100), bucket.wait_s(0.0, 1_101) > 0) == (0, True)
    assert bucket.taken == 100


@pytest.mark.parametrize(
    ("said", "per_s"),
    [
        (requests(60, 0, 60.0), 1.0),
        (requests(60, 59, 1.0), 1.0),
        (requests(60, 59, 3.0), 1.0),
        (requests(3_600, 1_800, 1_800.0), 1.0),
        (requests(60, 60, 500.0), 1.0),
    ],
)
def test_a_limit_is_for_a_minute_unless_it_refills_for_longer(said: Allowance, per_s: float) -> None:
    bucket = Bucket()
    bucket.told(0.0, said, Mark(0.0, 0.0))
    assert bucket.per_s == per_s


def test_a_single_bucket_gives_one_at_a_time_and_makes_a_late_timer_good() -> None:
    bucket = Bucket(single=True)
    bucket.told(0.0, requests(600, 600), Mark(0.0, 0.0))
    assert bucket.wait_s(0.0, 1) == 0
    bucket.take(0.0, 1)
    assert bucket.wait_s(0.0, 1) == pytest.approx(0.1)
    bucket.take(0.15, 1)
    assert bucket.wait_s(0.15, 1) == pytest.approx(0.05), "the timer came 0.05 s late"
    late = 0.2 + 2 * LATE_S
    bucket.take(late, 1)
    assert bucket.wait_s(late, 1) == pytest.approx(0.1), "nobody is that late: there was a break"
    assert bucket.wait_s(late + 100, 1) == 0
    bucket.take(late + 100, 1)
    assert bucket.wait_s(late + 100, 1) == pytest.approx(0.1)


def test_a_window_shrinks_once_a_round_trip_and_grows_when_it_is_used() -> None:
    window = Window(40)
    assert window.size == 40
    for _ in range(100):
        window.answered(10.0, 8.0, 40)
    for _ in range(10):
        window.rejected(10.0, 9.0)
    assert window.size == 32
    window.rejected(11.0, 10.5)
    assert window.size == 32, "it was let in two seconds, a round trip, after the decrease at the soonest"
    window.rejected(12.1, 12.0)
    assert window.size == 25
    for _ in range(200):
        window.answered(15.0, 12.05, 25)
    assert window.size == 25, "they began before the decrease was heard of"
    for _ in range(200):
        window.answered(16.0, 14.0, 19)
    assert window.size == 25, "it is not in use"
    for _ in range(26):
        window.answered(16.0, 14.0, window.size)
    assert window.size == 27, "a twentieth of the most a round trip"
    for _ in range(2_000):
        window.answered(16.0, 14.0, window.size)
    assert window.size == 40
    for second in range(100, 1_000, 10):
        window.rejected(second, second - 1)
    assert window.size == 1


def test_room_is_left_for_what_a_rate_has_in_flight() -> None:
    window = Window(40)
    for _ in range(200):
        window.answered(10.0, 6.0, 40)
    for at in range(100, 200, 10):
        window.rejected(at, at - 1, per_s=6.0)
    assert window.size == 30, "6 a second for 4 s each, and a quarter"
    window.rejected(300, 299, per_s=20.0)
    assert window.size == 30, "a rejection never makes it larger"


def test_what_fails_otherwise_only_stops_growth() -> None:
    window = Window(10)
    window.rejected(1.0, 0.5)
    window.failed(2.0)
    for _ in range(100):
        window.answered(3.0, 1.5, 8)
    assert window.size == 8
    for _ in range(100):
        window.answered(4.0, 2.5, window.size)
    assert window.size == 10


@pytest.mark.parametrize(("rejected", "before", "after"), [(False, 10, 20), (True, 8, 8)])
def test_the_most_can_be_changed_at_any_time(rejected: bool, before: int, after: int) -> None:
    window = Window(10)
    if rejected:
        window.rejected(1.0, 0.5)
    assert window.size == before
    window.most = 20
    assert (window.most, window.size) == (20, after)
    window.most = 3
    assert window.size == 3


def started(pace: Pace, now: float, until: float) -> list[float]:
    """When calls start that come as fast as the pace lets them."""
    starts = []
    while (now := now + pace.wait_s(now)) < until:
        pace.began(now)
        starts.append(now)
    return starts


def test_until_the_first_answer_starts_are_spread() -> None:
    pace = Pace()
    starts = started(pace, 1_000.0, 1_000.0 + 4 * RAMP_DOUBLES_S)
    halves = [sum(start < 1_000.0 + each * RAMP_DOUBLES_S for start in starts) for each in (1, 2, 4)]
    assert halves[0] == pytest.approx(RAMP_PER_S * RAMP_DOUBLES_S * 1.5, abs=2)
    assert halves[1] < 25
    assert halves[2] > 70
    pace.answered()
    assert pace.wait_s(1_000.5) == 0
    for _ in range(10_000):
        pace.began(1_000.5)
    assert pace.wait_s(1_000.5) == 0


def test_after_a_rejection_calls_start_as_fast_as_they_were_let_in() -> None:
    pace = Pace()
    pace.answered()
    for number in range(100):
        pace.began(number / 10)
    pace.rejected(10.0, 9.9)
    assert len(started(pace, 10.0, 12.0)) == pytest.approx(20, abs=1)
    pace.rejected(12.0, 9.8)
    assert len(started(pace, 12.0, 14.0)) == pytest.approx(20, abs=2), "that was no news"


@pytest.mark.parametrize(("after_s", "share"), [(1.0, 0.6), (9.0, 0.9)])
def test_another_rejection_slows_it_down_the_more_the_sooner_it_comes(after_s: float, share: float) -> None:
    pace = Pace()
    pace.answered()
    for number in range(100):
        pace.began(number / 10)
    pace.rejected(10.0, 9.9)
    at = 10.0 + after_s
    before = len(started(pace, 10.0, at)) / after_s
    pace.rejected(at, at - 0.01)
    assert len(started(pace, at, at + 2)) / 2 == pytest.approx(before * share, rel=0.15)


def test_where_the_limit_is_known_it_goes_a_little_below_it_and_comes_back_slowly() -> None:
    pace = Pace()
    pace.answered()
    pace.began(10.0)
    pace.rejected(10.0, 10.0, limit_per_s=50.0)
    assert pace.per_s(10.0) == 45
    pace.began(11.0)
    pace.rejected(11.0, 11.0, limit_per_s=50.0)
    assert pace.per_s(11.0) == pytest.approx(40.5, rel=0.01)
    rates = [pace.per_s(11.0 + after_s) or 0.0 for after_s in (10, 60, 600)]
    assert rates[0] < 41
    assert rates[1] == pytest.approx(81, rel=0.01)
    assert rates[2] > 10_000


def test_without_rejections_the_pace_comes_to_hold_nobody() -> None:
    pace = Pace()
    pace.answered()
    pace.began(0.0)
    pace.rejected(0.0, 0.0)
    counts = [len(started(pace, second, second + 10)) for second in (0.0, 30.0, 120.0)]
    assert counts[0] <= 12
    assert counts[1] > 20
    assert counts[2] > 600
