"""Agents in groups: who is in which, and in which order they stand."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks.states import FINAL_STATES, WORKING_STATES
from tests.tui.memory_feed import BEGAN, fleet_feed
from tui.columns import Columns
from tui.feed import Agent
from tui.fleet import STALLED_S
from tui.grouping import AT_WORK, GROUPINGS, NO_REASON, NO_SERVICE, STALLED, By, Group, grouped

NOW = BEGAN + 100
AGENTS = fleet_feed(3).agents


def named(agents: tuple[Agent, ...], by: By, services: dict[str, list[str]] | None = None) -> dict[str, list[str]]:
    return {group.name: [one.ticket for one in group.agents] for group in grouped(agents, by, services or {}, NOW)}


def agents_of(words: st.SearchStrategy[str]) -> st.SearchStrategy[Agent]:
    states = st.sampled_from([*FINAL_STATES, *WORKING_STATES, "dreaming"])
    return st.builds(Agent, ticket=words, state=states, reason=words, heard=st.sampled_from([0.0, NOW]))


@pytest.mark.parametrize("by", [None, *GROUPINGS])
@given(agents=st.lists(agents_of(st.text(max_size=9)), unique_by=lambda agent: agent.ticket))
def test_everybody_is_in_one_group_and_keeps_its_place_there(by: By | None, agents: list[Agent]) -> None:
    groups = grouped(agents, by, {agent.ticket: ["users"] for agent in agents[::2]}, NOW)
    assert sorted(agent.ticket for group in groups for agent in group.agents) == sorted(a.ticket for a in agents)
    for group in groups:
        assert [agent for agent in agents if agent in group.agents] == [*group.agents]


def test_states_stand_by_what_needs_attention_whoever_comes_first() -> None:
    silent = replace(AGENTS[6], ticket="silent", heard=NOW - STALLED_S - 1)
    found = named((*reversed(AGENTS), silent), "state")
    assert list(found) == [
        "needs_human", "error", STALLED, "failed", "unproven", "validating", "instantiating", "checking", "generating",
        "paused", "queued", "cancelled", "verified",
    ]  # fmt: skip
    assert found[STALLED] == ["silent"]
    assert found["failed"] == ["failed-02", "failed-01", "failed-00"]


def test_who_may_change_several_services_is_counted_once() -> None:
    found = named(AGENTS[:4], "service", {AGENTS[0].ticket: ["users", "orders"], AGENTS[1].ticket: ["users"]})
    assert found == {
        "orders + users": [AGENTS[0].ticket],
        "users": [AGENTS[1].ticket],
        NO_SERVICE: [AGENTS[2].ticket, AGENTS[3].ticket],
    }


def test_reasons_that_differ_in_numbers_and_names_are_one() -> None:
    agents = (
        Agent("a", state="failed", reason="out of budget after 4 iterations"),
        Agent("b", state="failed", reason="out of budget after 12 iterations"),
        Agent("c", state="error", reason="the worktree of c is 3 GB"),
        Agent("d", state="queued", reason="waits for 2 others"),
        Agent("e", state="verified"),
        Agent("f", state="generating", heard=NOW),
        Agent("g", state="queued", reason="waits for 2 others"),
        Agent("h", state="validating", reason="to be tried again", heard=NOW - STALLED_S - 1),
    )
    assert named(agents, "reason") == {
        "the worktree of c is 3 GB": ["c"],
        STALLED: ["h"],
        "out of budget after … iterations": ["a", "b"],
        AT_WORK: ["f"],
        "waits for 2 others": ["d", "g"],
        NO_REASON: ["e"],
    }


@pytest.mark.parametrize("width", [1, 20, 40, 80, 132])
def test_a_head_says_what_and_how_many_in_any_width(width: int) -> None:
    group = Group("the \x1b[2Jkey 漢字 " + "was lost " * 40, AGENTS[:12])
    text = "".join(text for text, _ in Columns(width).group(group, folded=True, marked=2))
    assert text.startswith("+ the ")
    assert "\x1b" not in text
    assert "… 12  2 marked" in text
