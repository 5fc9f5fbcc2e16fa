"""What a message of the model asks for, done: its tool calls run, their results in the order of the calls.

Calls that only read run side by side; one that may change the worktree runs alone, after those before it. Whatever a
model sends as a name or an input, there is a result for every call.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from itertools import groupby
from typing import Any, Final

from pydantic import Field

from harness.agents.anthropic.tools import Answer, Tool, ToolInput, own_tool
from harness.agents.conversation import Block, tool_result

ASK_HUMAN: Final = "ask_human"


class AskInput(ToolInput):
    reason: str = Field(min_length=1, description="the question, or why the ticket cannot be done; for a human to read")


class DiagnosticsInput(ToolInput):
    pass


def ask_human_tool() -> Tool:
    """The tool by which the model says that a human is needed. The loop ends on it."""

    async def answer(_: AskInput) -> str:
        return "A human has been asked. The work on this ticket ends here."

    return own_tool(
        ASK_HUMAN,
        "Say that this ticket needs a human: a decision that is not yours, or something that you may not change. "
        "The work on the ticket ends with it.",
        AskInput,
        answer,
        doing=lambda given: str(given.get("reason", "")),
        reads_only=False,
    )


def question_in(calls: Sequence[Block]) -> str | None:
    """The reason of the first well-formed `ask_human` among the calls, or None."""
    for call in calls:
        reason = call["input"].get("reason") if call["name"] == ASK_HUMAN and isinstance(call["input"], dict) else None
        if isinstance(reason, str) and reason.strip():
            return reason.strip()
    return None


async def results_of(
    calls: Sequence[Block], tools: Mapping[str, Tool], *, begins: Callable[[str], None]
) -> list[Block]:
    """One `tool_result` a call, in order. `begins` hears one line as each call begins."""
    results: list[Block] = []
    for beside, group in groupby(calls, key=lambda call: _reads_only(call, tools)):
        if beside:
            results += await asyncio.gather(*(_result(call, tools, begins) for call in group))
        else:
            results += [await _result(call, tools, begins) for call in group]
    return results


def _reads_only(call: Block, tools: Mapping[str, Tool]) -> bool:
    tool = tools.get(call["name"])
    return tool is None or tool.reads_only


async def _result(call: Block, tools: Mapping[str, Tool], begins: Callable[[str], None]) -> Block:
    answer = await _answer(call["name"], call["input"], tools, begins)
    return tool_result(call["id"], answer.content, is_error=answer.is_error)


async def _answer(name: str, given: Any, tools: Mapping[str, Tool], begins: Callable[[str], None]) -> Answer:
    tool = tools.get(name)
    if tool is None:
        return Answer(f"there is no tool {name!r}; tools: {', '.join(tools)}", is_error=True)
    if not isinstance(given, dict):
        return Answer(f"{name}: the input must be an object", is_error=True)
    begins(tool.activity(given))
    return await tool.answer(given)
