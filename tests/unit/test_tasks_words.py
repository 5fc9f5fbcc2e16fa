"""States and their moves, plain text, events and errors: the vocabulary that every room shares."""

from __future__ import annotations

import itertools
import unicodedata
from pathlib import Path
from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.errors import (
    BaselineError,
    CheckoutError,
    ConfigError,
    EnvironmentFault,
    ForkError,
    ModelError,
    SandboxError,
    SandboxGone,
    SandboxTaken,
    SpurlineError,
    StoreError,
    UsageError,
)
from tasks.events import Event
from tasks.states import FINAL_STATES, WORKING_STATES, AgentState, FinalState, WorkingState, is_final, may_move
from tasks.text import capped, one_line, plain

STATES: tuple[AgentState, ...] = (*WORKING_STATES, *FINAL_STATES)


@given(st.lists(st.sampled_from(STATES), max_size=60))
def test_random_walks_end_once_and_are_verified_only_by_submitting(wanted: list[AgentState]) -> None:
    walk: list[AgentState] = ["queued"]
    for state in wanted:
        if may_move(walk[-1], state):
            walk.append(state)
    assert not any(is_final(state) for state in walk[:-1])
    if walk[-1] == "verified":
        assert walk[-2] == "submitting"
        assert "paused" in walk or {"generating", "validating"} <= set(walk)


def test_every_move_is_decided() -> None:
    for old in STATES:
        for new in STATES:
            if is_final(old):
                assert not may_move(old, new)
            elif new == "verified":
                assert may_move(old, new) == (old == "submitting")
            elif is_final(new) or new == "paused":
                assert may_move(old, new)
    assert get_args(FinalState) == FINAL_STATES
    assert get_args(WorkingState) == WORKING_STATES


def test_the_loop_goes_round_and_steps_may_be_repeated() -> None:
    way: list[AgentState] = ["queued", "preparing", "generating", "checking", "generating", "checking", "instantiating"]
    way += ["generating", "checking", "instantiating", "validating", "generating", "checking", "instantiating"]
    way += ["validating", "submitting", "verified"]
    assert all(may_move(old, new) for old, new in itertools.pairwise(way))
    assert all(may_move(state, state) for state in WORKING_STATES)
    assert not may_move("queued", "generating")
    assert not may_move("generating", "submitting")
    assert not may_move("checking", "submitting")


SEQUENCES = [
    ("\x1b[31mred\x1b[0m", "red"),
    ("\x1b[2J\x1b[1;1Hx", "x"),
    ("\x1b[?25lx", "x"),
    ("\x9b31mred", "red"),
    ("\x1b]0;title\x07x", "x"),
    ("\x1b]8;;http://evil\x1b\\link\x1b]8;;\x1b\\", "link"),
    ("\x9d0;title\x9cx", "x"),
    ("\x1bP+q544e\x1b\\x", "x"),
    ("\x1b_apc\x1b\\x", "x"),
    ("\x1b(Bx", "x"),
    ("\x1b=x\x1b>y\x1bcz", "xyz"),
    ("\x1b", ""),
    ("a\x1b[", "a"),
    ("a\rb\r\nc", "ab\nc"),
    ("tab\tkept", "tab\tkept"),
    ("bell\x07back\x08", "bellback"),
    ("\u202eevil\u202c \u2066x\u2069 \u200f\u061c", "evil x "),
    ("half \ud800 pair", "half  pair"),
    ("ümläut 漢字 🙂", "ümläut 漢字 🙂"),
    ("\x1b]0;never ended\nthe failing line", "\nthe failing line"),
    ("\x1b\x1b[31m[31mx", "[31mx"),
]


@pytest.mark.parametrize(("text", "expected"), SEQUENCES)
def test_sequences_go_and_the_text_stays(text: str, expected: str) -> None:
    assert plain(text) == expected


LOUD = st.text(
    alphabet=st.sampled_from("\x1b[]()PX^_0;m\x07\\\x9b\x9d\x9c\x90ab \n\r\t\u202e\u2066\u061c\ud800é")
    | st.characters(),
    max_size=80,
)


@given(LOUD)
def test_plain_text_controls_nothing(text: str) -> None:
    shown = plain(text)
    assert plain(shown) == shown
    for character in shown:
        assert character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cs"), hex(ord(character))
        assert unicodedata.bidirectional(character) not in (
            "LRE",
            "RLE",
            "LRO",
            "RLO",
            "PDF",
            "LRI",
            "RLI",
            "FSI",
            "PDI",
        )
    shown.encode()


@given(LOUD, st.integers(min_value=1, max_value=100))
def test_one_line_is_one_short_line(text: str, limit: int) -> None:
    line = one_line(text, limit)
    assert len(line) <= limit
    assert len(line.splitlines()) <= 1
    assert one_line(line, limit) == line


@given(st.text(max_size=300), st.integers(min_value=0, max_value=200))
def test_capped_text_keeps_head_and_tail(text: str, limit: int) -> None:
    kept = capped(text, limit)
    if len(text) <= limit:
        assert kept == text
        return
    left_out = len(text) - limit
    marker = f"\n… {left_out} characters left out …\n"
    assert len(kept) == limit + len(marker)
    head, tail = (
        kept.split(marker, 1) if text.count(marker) == 0 else (text[: limit // 3], kept[limit // 3 + len(marker) :])
    )
    assert text.startswith(head)
    assert text.endswith(tail)


@pytest.mark.parametrize(
    "text", ["\x1b[" * 300_000, "\x1b]" * 300_000, "\x1b]" + "a" * 900_000, "\x1b[" + "1" * 900_000]
)
def test_a_megabyte_of_sequences_is_done_in_one_pass(text: str) -> None:
    assert len(plain(text)) < len(text)


def test_events_as_lines() -> None:
    event = Event("agent.state", "r1", "t1", {"state": "verified"}, 1.23456)
    assert event.to_json() == {"event": "agent.state", "at": 1.235, "run": "r1", "ticket": "t1", "state": "verified"}
    assert list(Event("run.started", "r1").to_json()) == ["event", "at", "run"]


def test_errors_have_codes_and_exit_codes() -> None:
    kinds: list[type[SpurlineError]] = [
        *(UsageError, ConfigError, EnvironmentFault, BaselineError, SandboxError),
        *(SandboxGone, SandboxTaken, ForkError, ModelError, StoreError, CheckoutError),
    ]
    assert len({kind.code for kind in kinds}) == len(kinds)
    assert all(issubclass(kind, SpurlineError) for kind in kinds)
    for kind in kinds:
        expected = 3 if issubclass(kind, EnvironmentFault) else 2
        assert kind.exit_code == expected


def test_a_config_error_names_its_place() -> None:
    error = ConfigError("unknown key", path=Path("a.yaml"), line=3, key="x.y", hint="leave it out")
    assert (str(error), error.hint) == ("a.yaml:3 at 'x.y': unknown key", "leave it out")
    assert str(ConfigError("is empty", path=Path("a.yaml"))) == "a.yaml: is empty"
