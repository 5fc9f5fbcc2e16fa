"""What a model is given: lean schemas, plain and short texts, a prefix that nothing moves."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness.agents.anthropic.files import file_tools
from harness.agents.anthropic.layout import marked, system_blocks
from harness.agents.anthropic.prompt import SYSTEM
from harness.agents.anthropic.shell import Grounds, bash_tool
from harness.agents.anthropic.tools import OUTPUT_LIMIT_CHARS, ToolInput, fit, own_tool
from harness.agents.conversation import text_block
from harness.agents.meter import OpenMeter, Wanted
from harness.agents.usage import price_usd


def test_the_tools_have_the_names_and_inputs_that_models_know(tmp_path: Path) -> None:
    tools = [bash_tool(tmp_path, Grounds(tmp_path, tmp_path / "state")), *file_tools(tmp_path)]
    assert {tool.name: sorted(tool.schema["properties"]) for tool in tools} == {
        "bash": ["command", "timeout_ms"],
        "read": ["file_path", "view_range"],
        "write": ["content", "file_path"],
        "edit": ["file_path", "new_string", "old_string", "replace_all"],
        "glob": ["path", "pattern"],
        "grep": ["path", "pattern"],
    }
    assert all(tool.description and tool.schema["type"] == "object" for tool in tools)


def test_definitions_are_the_same_whatever_the_worktree(tmp_path: Path) -> None:
    def definitions(name: str) -> str:
        worktree = tmp_path / name
        tools = [bash_tool(worktree, Grounds(tmp_path, tmp_path / "state")), *file_tools(worktree)]
        return json.dumps([tool.definition for tool in tools])

    assert definitions("one") == definitions("two")


def test_output_is_plain_short_and_never_empty() -> None:
    assert fit("\x1b[31mred\x1b[0m\r\n\x07", redacted=False) == "red\n"
    assert fit(" \n", redacted=False) == "(no output)"
    assert fit("token: abcdef", redacted=True) == "token: [redacted]"
    assert fit("token: abcdef", redacted=False) == "token: abcdef"
    long = fit("x" * 100_000, redacted=False)
    assert OUTPUT_LIMIT_CHARS < len(long) < OUTPUT_LIMIT_CHARS + 100
    assert "70000 characters left out" in long


async def test_a_routing_key_never_gets_through() -> None:
    async def answer(_: ToolInput) -> str:
        return "baggage: spurline-key=0123456789abcdef; traceparent: 00-5b170123456789abcdef000000000000-1-01"

    tool = own_tool("look", "Look.", ToolInput, answer)
    said = await tool.answer({})
    assert "456789abcdef" not in str(said.content)


def test_an_activity_is_one_plain_line(tmp_path: Path) -> None:
    tool = bash_tool(tmp_path, Grounds(tmp_path, tmp_path / "state"))
    activity = tool.activity({"command": "echo \x1b[31m" + "a\n" * 500})
    assert activity.startswith("bash echo a a")
    assert len(activity) == 120
    assert tool.activity({"command": 7}) == "bash 7"
    assert tool.activity({}) == "bash"


def test_only_the_markers_move() -> None:
    messages = [
        {"role": "assistant" if index % 2 else "user", "content": [text_block(f"{index}"), text_block("end")]}
        for index in range(7)
    ]

    def bare(laid: list[dict[str, Any]]) -> str:
        return json.dumps(laid).replace(', "cache_control": {"type": "ephemeral"}', "")

    for count in (1, 3, 5, 7):
        laid = marked(messages[:count])
        assert bare(laid) == json.dumps(messages[:count])
        marks = [index for index, message in enumerate(laid) if "cache_control" in message["content"][-1]]
        assert marks == [index for index in (count - 3, count - 1) if index >= 0]
        assert not any("cache_control" in message["content"][0] for message in laid)
    assert "cache_control" not in json.dumps(messages)


def test_the_system_prompt_names_nothing_that_changes() -> None:
    (block,) = system_blocks(SYSTEM)
    assert block["cache_control"] == {"type": "ephemeral"}
    assert not any(character.isdigit() and character not in "12345" for character in SYSTEM)
    assert "{" not in SYSTEM


@pytest.mark.parametrize(
    ("fresh", "output", "read", "write"), [(1000, 0, 0, 0), (0, 1000, 0, 0), (0, 0, 1000, 0), (0, 0, 0, 1000)]
)
def test_every_kind_of_token_has_its_price(fresh: int, output: int, read: int, write: int) -> None:
    price = price_usd(
        "claude-sonnet-5-5", input_tokens=fresh, output_tokens=output, cache_read_tokens=read, cache_write_tokens=write
    )
    assert price is not None
    assert 0 < price < 0.1


def test_cached_tokens_are_cheaper_to_read_and_dearer_to_write() -> None:
    def price(**tokens: int) -> float:
        none = {"input_tokens": 0, "output_tokens": 0, "cache_read_tokens": 0, "cache_write_tokens": 0}
        found = price_usd("claude-sonnet-5-5", **{**none, **tokens})
        assert found is not None
        return found

    assert price(cache_read_tokens=1000) < price(input_tokens=1000) < price(cache_write_tokens=1000)


def test_a_model_without_a_price_has_none() -> None:
    none = price_usd("nobodys-model", input_tokens=1, output_tokens=1, cache_read_tokens=0, cache_write_tokens=0)
    assert none is None


async def test_an_open_meter_limits_calls_in_flight() -> None:
    meter = OpenMeter(calls_in_flight=1)
    async with meter.call("one", Wanted(1, 1)):
        assert meter._slots.locked()
    assert not meter._slots.locked()
    assert meter.nearly_spent("one") is None
    assert meter.cost_usd == 0
