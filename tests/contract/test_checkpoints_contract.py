"""Positions of the ticket loop: what LangGraph is promised, on a file and on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import operator
from contextlib import suppress
from pathlib import Path
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph

from harness.store.checkpoints import open_checkpoints
from harness.store.database import Database
from tasks.errors import StoreError
from tests.postgres import Server


class State(TypedDict):
    steps: Annotated[list[str], operator.add]


def graph(saver: BaseCheckpointSaver[str], *, broken: list[bool]) -> Any:
    """Two nodes; the second raises once for each True in `broken`."""

    async def second(state: State) -> State:
        if broken and broken.pop():
            raise ConnectionError("the process died here")
        return {"steps": ["second"]}

    async def first(state: State) -> State:
        return {"steps": ["first"]}

    built = StateGraph(State)
    built.add_node("first", first)
    built.add_node("second", second)
    built.add_edge(START, "first")
    built.add_edge("first", "second")
    built.add_edge("second", END)
    return built.compile(checkpointer=saver)


def thread(name: str) -> dict[str, Any]:
    return {"configurable": {"thread_id": name}}


async def test_a_graph_goes_on_where_it_was_left(place: Path | str) -> None:
    async with open_checkpoints(place) as saver:
        with pytest.raises(ConnectionError):
            await graph(saver, broken=[True]).ainvoke({"steps": []}, thread("t"))
    async with open_checkpoints(place) as saver:
        assert await graph(saver, broken=[]).ainvoke(None, thread("t")) == {"steps": ["first", "second"]}


async def test_many_graphs_at_once_keep_their_places(place: Path | str) -> None:
    async with open_checkpoints(place) as saver:
        loop = graph(saver, broken=[])
        ended = await asyncio.gather(*(loop.ainvoke({"steps": [f"t{n}"]}, thread(f"t{n}")) for n in range(40)))
    assert [one["steps"][0] for one in ended] == [f"t{n}" for n in range(40)]


async def test_a_graph_that_is_cancelled_leaves_the_saver_whole(place: Path | str) -> None:
    async with open_checkpoints(place) as saver:
        loop = graph(saver, broken=[])
        for number in range(30):
            task = asyncio.create_task(loop.ainvoke({"steps": []}, thread(f"c{number}")))
            await asyncio.sleep(number / 2_000)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
        assert await loop.ainvoke({"steps": []}, thread("t")) == {"steps": ["first", "second"]}


async def test_store_and_positions_share_a_database(postgres: Server, postgres_url: str) -> None:
    async with Database(postgres_url), open_checkpoints(postgres_url) as saver:
        await graph(saver, broken=[]).ainvoke({"steps": []}, thread("t"))
    name = postgres_url.rpartition("/")[2]
    query = "SELECT DISTINCT schemaname FROM pg_tables WHERE schemaname !~ '^pg_|^information' ORDER BY 1"
    assert postgres.execute(query, name) == [("spurline",), ("spurline_positions",)]


@pytest.mark.parametrize("mode", ["immediate", "fast"])
async def test_a_server_that_restarts_is_waited_for(postgres: Server, postgres_url: str, mode: str) -> None:
    async with open_checkpoints(postgres_url) as saver:
        loop = graph(saver, broken=[])
        await loop.ainvoke({"steps": []}, thread("warm"))
        await asyncio.to_thread(postgres.stop, mode)
        tasks = [asyncio.create_task(loop.ainvoke({"steps": []}, thread(f"t{n}"))) for n in range(10)]
        await asyncio.sleep(0.2)
        await asyncio.to_thread(postgres.start)
        assert await asyncio.gather(*tasks) == [{"steps": ["first", "second"]}] * 10


async def test_what_the_database_refuses_is_told(postgres: Server, postgres_url: str) -> None:
    async with open_checkpoints(postgres_url) as saver:
        postgres.execute("DROP SCHEMA spurline_positions CASCADE", postgres_url.rpartition("/")[2])
        with pytest.raises(StoreError, match="does not exist"):
            await graph(saver, broken=[]).ainvoke({"steps": []}, thread("t"))
