"""The ticket loop as one compiled graph: one LangGraph thread a ticket.

Fanning out inside one graph would cancel siblings on the first error, so the engine runs the threads side by side.
"""

from __future__ import annotations

from typing import Any, cast

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graphs.nodes.check import check
from graphs.nodes.feedback import feedback
from graphs.nodes.generate import generate
from graphs.nodes.instantiate import instantiate
from graphs.nodes.prepare import prepare
from graphs.nodes.submit import submit
from graphs.nodes.tear_down import tear_down
from graphs.nodes.validate import validate
from graphs.ports import Ports
from graphs.state import TicketState

TicketLoop = CompiledStateGraph[TicketState, Ports, TicketState, TicketState]


def build_loop(checkpointer: BaseCheckpointSaver[Any] | None = None) -> TicketLoop:
    """The compiled graph. Without a checkpointer it forgets its position when it ends."""
    graph = StateGraph(TicketState, context_schema=Ports)
    for node in (prepare, generate, check, instantiate, validate, feedback, submit, tear_down):
        graph.add_node(node.__name__, node)
    graph.add_edge(START, "prepare")
    graph.add_edge("prepare", "generate")
    graph.add_conditional_edges("generate", _next, ["check", "feedback", "tear_down"])
    graph.add_conditional_edges("check", _next, ["instantiate", "feedback"])
    graph.add_conditional_edges("instantiate", _next, ["validate", "feedback", "tear_down"])
    graph.add_conditional_edges("validate", _next, ["submit", "feedback", "tear_down"])
    graph.add_conditional_edges("feedback", _next, ["generate", "tear_down"])
    graph.add_edge("submit", "tear_down")
    graph.add_edge("tear_down", END)
    return graph.compile(checkpointer=checkpointer)


async def work_ticket(loop: TicketLoop, ports: Ports, run: str, ticket: str) -> TicketState:
    """Take one ticket through the loop to its end. Raises what the ports raise."""
    # Each iteration passes at most five nodes; LangGraph's own limit of 25 would end a long ticket early.
    limit = 10 + 6 * ports.max_iterations
    state: dict[str, object] = await loop.ainvoke(
        TicketState(run=run, ticket=ticket),
        {"configurable": {"thread_id": f"{run}/{ticket}"}, "recursion_limit": limit},
        context=ports,
        durability="sync" if loop.checkpointer else None,
    )
    return cast(TicketState, state)


def picture() -> str:
    """The graph as Mermaid text, drawn from the compiled graph itself."""
    return build_loop().get_graph().draw_mermaid()


def _next(state: TicketState) -> str:
    return state["step"]
