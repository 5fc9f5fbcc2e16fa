"""Bare LangGraph: a graph of one node that calls the anthropic SDK until the model ends its turn; its SQLite saver."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import anthropic
from langgraph.checkpoint.sqlite.aio import AsyncSqliteSaver
from langgraph.graph import END, START, StateGraph
from lap import PROMPT, Lap, Watch, told

TOOL = {
    "name": "read",
    "description": "Read a file.",
    "input_schema": {"type": "object", "properties": {"file_path": {"type": "string"}}},
}


class State(TypedDict):
    messages: list[Any]


async def main(lap: Lap) -> None:
    client = anthropic.AsyncAnthropic(base_url=lap.url, api_key="any", max_retries=0)
    at_once = asyncio.Semaphore(lap.agents)

    async def call(state: State) -> State:
        tools: Any = [TOOL]
        reply = await client.messages.create(
            model="claude-sonnet-5-5", max_tokens=16_000, tools=tools, messages=state["messages"]
        )
        said = [{"role": "assistant", "content": [block.to_dict() for block in reply.content]}]
        results = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "one"}
            for block in reply.content
            if block.type == "tool_use"
        ]
        answered = [{"role": "user", "content": results}] if results else []
        return {"messages": [*state["messages"], *said, *answered]}

    graph = StateGraph(State)
    graph.add_node("call", call)
    graph.add_edge(START, "call")
    graph.add_conditional_edges("call", lambda state: "call" if state["messages"][-1]["role"] == "user" else END)

    async def work(ticket: str) -> int:
        async with at_once:
            begin: State = {"messages": [{"role": "user", "content": PROMPT.format(ticket=ticket)}]}
            ended = await loop.ainvoke(begin, {"configurable": {"thread_id": ticket}})
            return int(ended["messages"][-1]["role"] == "assistant")

    async with AsyncSqliteSaver.from_conn_string(str(lap.folder / "checkpoints.db")) as saver:
        loop = graph.compile(checkpointer=saver)
        await saver.setup()
        watch = Watch()
        watch.stop(sum(await asyncio.gather(*map(work, lap.tickets))))


if __name__ == "__main__":
    asyncio.run(main(told()))
