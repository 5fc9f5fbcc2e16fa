"""The drawing of hops: whatever they are, it keeps to its width and names every service; forks, failures and losses are
told apart without colour."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.cells import cell_len

from sandbox.hops import Lost
from sandbox.seen import SeenHop
from tui.hopgraph import NARROWEST, Drawing, drawing

names = st.sampled_from(
    ["client", "gateway", "users", "orders", "payments", "inventory", "漢字サービス", "a", "b", "c", "d", "legacy"]
)
hops = st.builds(
    SeenHop,
    names,
    names,
    st.just("GET"),
    st.sampled_from(["/", "/x" * 60, "/\x1b[2J[bold]"]),
    st.sampled_from([0, 200, 404, 503]),
    st.sampled_from(["fork", "baseline", "refused", "fault"]),
    st.none() | st.integers(1, 3),
    st.none() | st.integers(0, 16),
    st.integers(1, 999),
    st.booleans(),
)


def text(drawn: Drawing) -> str:
    return "\n".join("".join(piece for piece, _ in line) for line in drawn.lines)


def hop(caller: str, service: str, path: str = "/", status: int = 200, **more: Any) -> SeenHop:
    return SeenHop(caller, service, "GET", path, status, **{"served_by": "baseline", **more})


@given(st.lists(hops, max_size=40), st.lists(st.builds(Lost, names, names), max_size=4), st.integers(NARROWEST, 120))
def test_any_hops_fit_and_every_service_is_named_in_one_box(some: list[SeenHop], lost: list[Lost], width: int) -> None:
    drawn = drawing(some, lost, width)
    lines = text(drawn).split("\n")
    assert all(cell_len(line) <= width for line in lines)
    wanted = {name for one in some for name in (one.caller, one.service)}
    wanted |= {name for one in lost for name in (one.service, one.callee)}
    for name in wanted:
        boxes = [line for line in lines if any(f"{edge} {name} {edge}" in line for edge in "│║┃")]
        assert len(boxes) == 1, name
    assert set(drawn.places) == {(one.caller, one.service) for one in some} | {(x.service, x.callee) for x in lost}


@given(st.lists(hops, min_size=1, max_size=40), st.integers(NARROWEST, 120))
def test_each_arrow_ends_where_it_is_said_to(some: list[SeenHop], width: int) -> None:
    drawn = drawing(some, (), width)
    lines = text(drawn).split("\n")
    for caller, service in drawn.places:
        line = lines[drawn.places[caller, service]]
        failed = any(one.origin for one in some if (one.caller, one.service) == (caller, service))
        # In the narrowest of places an arrow that hangs deep is cut.
        assert ("━━✗" if failed else "──▶") in line or cell_len(line) == width


def test_forks_failures_and_losses_are_told_by_shape() -> None:
    some = [
        hop("client", "gateway", status=502),
        hop("gateway", "users", served_by="fork", generation=2),
        hop("gateway", "orders", served_by="fork", generation=1),
        hop("gateway", "orders"),
        hop("orders", "payments", "/charges", 400, origin=True, times=5),
        hop("payments", "gateway"),
        hop("orders", "orders"),
    ]
    assert text(drawing(some, [Lost("legacy", "payments")], 72)).split("\n") == [
        "╭────────╮",
        "│ client │",
        "╰┬───────╯",
        " │   ┌─────────┐",
        " └──▶│ gateway │ baseline",
        "     └┬────────┘  GET / 502",
        "      │   ╔═══════╗",
        "      ├──▶║ users ║ fork g2",
        "      │   ╚═══════╝  GET / 200",
        "      │   ┏━━━━━━━━┓",
        "      └──▶┃ orders ┃ fork g1 and baseline",
        "          ┗┯━━━━━━━┛  GET / 200 and 1 other",
        "           │   ┌──────────┐",
        "           ├━━✗│ payments │ baseline  ✗ failed here",
        "           │   └┬─────────┘  GET /charges 400 ×5",
        "           │    └──▶ gateway (elsewhere)  GET / 200",
        "           └──▶ orders (itself)  GET / 200",
        "┌────────┐",
        "│ legacy │",
        "└┬───────┘",
        " └╌╌? payments (elsewhere)  ? the key was lost here",
    ]


def test_what_hangs_too_deep_begins_anew_at_the_margin() -> None:
    chain = ["client", *(f"service-{n}" for n in range(8))]
    drawn = text(drawing([hop(one, other) for one, other in pairwise(chain)], (), 40))
    assert drawn.count("┌") == 8
    assert any(line.startswith("│ service-") for line in drawn.split("\n"))


def test_nothing_is_drawn_of_nothing() -> None:
    assert drawing((), (), 80).lines == ()
