"""The ticket loop as one compiled graph: one LangGraph thread a ticket.

Fanning out inside one graph would cancel siblings on the first error, so the engine runs the threads side by side.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from functools import wraps
from typing import Any, Final, Protocol, cast

from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph
from langgraph.runtime import Runtime

from graphs.nodes.check import check
from graphs.nodes.feedback import feedback
from graphs.nodes.generate import generate
from graphs.nodes.instantiate import instantiate
from graphs.nodes.prepare import prepare
from graphs.nodes.submit import submit
from graphs.nodes.tear_down import tear_down
from graphs.nodes.validate import validate
from graphs.ports import MOST_ITERATIONS, Ports, attempt_name
from graphs.state import TicketState

TicketLoop = CompiledStateGraph[TicketState, Ports, TicketState, TicketState]


# Each iteration passes at most five nodes; LangGraph's own limit of 25 would end a long ticket early.
_STEPS: Final = 20 + 6 * MOST_ITERATIONS


class Node(Protocol):
    """One step of the loop: an update of the state."""

    __name__: str

    def __call__(self, state: TicketState, runtime: Runtime[Ports]) -> Awaitable[TicketState]: ...


def build_loop(checkpointer: BaseCheckpointSaver[Any] | None = None) -> TicketLoop:
    """The compiled graph. Without a checkpointer it forgets its position when it ends."""
    graph = StateGraph(TicketState, context_schema=Ports)
    for node in (prepare, generate, check, instantiate, validate):
        graph.add_node(node.__name__, _admitted(node))
    # What ends a ticket is quick, and is not begun without being finished.
    for node in (feedback, submit, tear_down):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "prepare")
    graph.add_edge("prepare", "generate")
    graph.add_conditional_edges("generate", _next, ["check", "feedback", "tear_down"])
    graph.add_conditional_edges("check", _next, ["instantiate", "feedback"])
    graph.add_conditional_edges("instantiate", _next, ["validate", "feedback", "tear_down"])
    graph.add_conditional_edges("validate", _next, ["submit", "feedback", "instantiate", "tear_down"])
    graph.add_conditional_edges("feedback", _next, ["generate", "tear_down"])
    graph.add_edge("submit", "tear_down")
    graph.add_edge("tear_down", END)
    return graph.compile(checkpointer=checkpointer)


async def work_ticket(
    loop: TicketLoop, ports: Ports, run: str, ticket: str, attempt: int = 1, *, carries_on: int = 0
) -> TicketState:
    """Take one ticket through the loop to its end: from where it stands, or from the beginning, or (`carries_on`) from
    where that attempt ended.

    Raises what the ports raise, Stopped among it; called again it goes on with the step that broke off.
    """
    config = _of_thread(run, ticket, attempt)
    known = await loop.aget_state(config) if loop.checkpointer else None
    # A step whose result was kept and that has no checkpoint yet is not `next` any more, but still among the tasks.
    if known is not None and known.values and not known.tasks:
        return cast(TicketState, known.values)
    goes_on = known is not None and bool(known.values)
    if known is not None and goes_on and not await _goes_on_here(ports, known.values):
        ports.journal.emit("agent.begun_anew", ticket, {"reason": "what it had done is on another machine"})
        goes_on = False
    begin = TicketState(run=run, ticket=ticket, attempt=attempt)
    if carries_on and not goes_on:
        begin |= {"carries_on": carries_on, **await _left_by(loop, run, ticket, carries_on)}
    state: dict[str, object] = await loop.ainvoke(
        None if goes_on else begin,
        config,
        context=ports,
        durability="sync" if loop.checkpointer else None,
    )
    return cast(TicketState, state)


def owner(thread: str) -> str:
    """The ticket that a thread belongs to."""
    return thread.partition("/")[2].partition("@")[0]


def _of_thread(run: str, ticket: str, attempt: int) -> RunnableConfig:
    return {"configurable": {"thread_id": _thread(run, ticket, attempt)}, "recursion_limit": _STEPS}


async def _left_by(loop: TicketLoop, run: str, ticket: str, attempt: int) -> TicketState:
    """What an attempt that has ended leaves to the one that goes on: how it ended, and what its agent has not heard."""
    values = (await loop.aget_state(_of_thread(run, ticket, attempt))).values if loop.checkpointer else {}
    if "outcome" not in values:
        # It was ended from outside.
        return {}
    return {"message": values["message"], "reason": f"{values['outcome']}, {values['reason']}"}


def _thread(run: str, ticket: str, attempt: int) -> str:
    return f"{run}/{attempt_name(ticket, attempt)}"


async def _goes_on_here(ports: Ports, state: Mapping[str, Any]) -> bool:
    """Whether what a ticket was worked on with is on this machine: its worktree's place, and what was committed."""
    if "worktree" not in state:
        return True
    work = await ports.workspaces.prepare(
        state["run"], ports.tickets[state["ticket"]], state.get("attempt", 1), state.get("carries_on", 0)
    )
    commit = state.get("commit")
    return work.worktree == state["worktree"] and (commit is None or await ports.workspaces.knows(commit))


def picture() -> str:
    """The graph as Mermaid text, drawn from the compiled graph itself."""
    return build_loop().get_graph().draw_mermaid()


def _next(state: TicketState) -> str:
    return state["step"]


def _admitted(node: Node) -> Node:
    """The node, begun only when its step may be taken."""

    @wraps(node)
    async def step(state: TicketState, runtime: Runtime[Ports]) -> TicketState:
        await runtime.context.admit(state["ticket"], node.__name__)
        return await node(state, runtime)

    return step
