"""The rehearsal server, asked by the real SDK: it answers as the API does, its faults included."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anthropic
import httpx
import pytest
from anthropic.types import MessageParam, ToolUseBlock

from harness.agents.rehearsal.limits import RateLimit
from harness.agents.rehearsal.server import serve_rehearsal
from tasks.errors import ConfigError

RECORDING = """\
ticket: users-v2
turns:
  - say: I look.
    use:
      - {tool: read, input: {file_path: app.py, view_range: [1, 2]}}
      - {tool: grep, input: {pattern: "ä\\"\\n"}}
    next:
      - {contains: old name, go: rename}
      - {go: stuck}
  - {id: rename, say: Renamed.}
  - {id: stuck, say: I am stuck.}
"""
COPIES = [f"users-v2.{nth:03d}" for nth in range(100)]
OPENING: MessageParam = {"role": "user", "content": "Ticket users-v2.003: Replace /v1\n\nbody"}


@pytest.fixture
async def base_url(tmp_path: Path) -> AsyncIterator[str]:
    (tmp_path / "users-v2.yaml").write_text(RECORDING)
    async with serve_rehearsal(tmp_path, copies=dict.fromkeys(COPIES, "users-v2")) as url:
        yield url


@pytest.fixture
async def sdk(base_url: str) -> AsyncIterator[anthropic.AsyncAnthropic]:
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key="any", max_retries=0) as client:
        yield client


async def fault(base_url: str, *faults: dict[str, Any]) -> None:
    async with httpx.AsyncClient() as client:
        (await client.post(f"{base_url}/_faults", json={"next": faults})).raise_for_status()


async def streamed(sdk: anthropic.AsyncAnthropic, messages: list[MessageParam]) -> anthropic.types.Message:
    async with sdk.messages.stream(model="claude-x", max_tokens=100, messages=messages) as stream:
        return await stream.get_final_message()


async def whole(sdk: anthropic.AsyncAnthropic, messages: list[MessageParam]) -> anthropic.types.Message:
    return await sdk.messages.create(model="claude-x", max_tokens=100, messages=messages)


@pytest.mark.parametrize("ask", [streamed, whole])
async def test_a_turn_with_tools_comes_whole(sdk: anthropic.AsyncAnthropic, ask: Any) -> None:
    message = await ask(sdk, [OPENING])
    calls = [block for block in message.content if isinstance(block, ToolUseBlock)]
    assert message.stop_reason == "tool_use"
    assert [(call.name, call.input) for call in calls] == [
        ("read", {"file_path": "app.py", "view_range": [1, 2]}),
        ("grep", {"pattern": 'ä"\n'}),
    ]
    assert message.content[0].text == "I look."
    assert message.usage.output_tokens > 0


async def test_streaming_and_not_say_the_same(sdk: anthropic.AsyncAnthropic) -> None:
    one, other = await streamed(sdk, [OPENING]), await whole(sdk, [OPENING])
    assert [block.to_dict() for block in one.content] == [block.to_dict() for block in other.content]


@pytest.mark.parametrize(("heard", "said"), [("the old name is here", "Renamed."), ("nothing", "I am stuck.")])
async def test_what_tools_return_decides(sdk: anthropic.AsyncAnthropic, heard: str, said: str) -> None:
    first = await streamed(sdk, [OPENING])
    results: Any = [
        {"type": "tool_result", "tool_use_id": block.id, "content": [{"type": "text", "text": heard}]}
        for block in first.content
        if isinstance(block, ToolUseBlock)
    ]
    said_before: Any = [block.to_dict() for block in first.content]
    second = await streamed(
        sdk, [OPENING, {"role": "assistant", "content": said_before}, {"role": "user", "content": results}]
    )
    assert (second.stop_reason, second.content[0].to_dict()) == ("end_turn", {"type": "text", "text": said})


@pytest.mark.parametrize(
    ("messages", "status", "said"),
    [
        ([], 400, "at least one message"),
        ([{"role": "assistant", "content": "hi"}], 400, 'first message must use the "user" role'),
        ([OPENING, OPENING], 400, "roles must alternate"),
        ([OPENING, {"role": "assistant", "content": "x"}], 400, "must end with a user message"),
        ([{"role": "user", "content": ""}], 400, "non-empty"),
        ([{"role": "system", "content": "x"}], 400, "messages.0.role"),
        ([{"role": "user", "content": "Ticket other: x"}], 404, "no recording for ticket 'other' in "),
        ([{"role": "user", "content": "Hello"}], 404, "Ticket <id>: <title>"),
        (
            [
                OPENING,
                {"role": "assistant", "content": [{"type": "tool_use", "id": "toolu_1", "name": "a", "input": {}}]},
                {"role": "user", "content": "and then?"},
            ],
            400,
            "`tool_use` ids were found without `tool_result` blocks immediately after: toolu_1",
        ),
    ],
)
async def test_what_the_api_would_refuse_is_refused(
    sdk: anthropic.AsyncAnthropic, messages: Any, status: int, said: str
) -> None:
    with pytest.raises(anthropic.APIStatusError) as raised:
        await streamed(sdk, messages)
    assert raised.value.status_code == status
    assert said in str(raised.value.api_message)
    assert raised.value.request_id


async def test_without_a_key_nobody_is_served(base_url: str) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.post(f"{base_url}/v1/messages", json={})
    assert (answer.status_code, answer.json()["error"]["type"]) == (401, "authentication_error")


async def test_tokens_are_counted_without_a_turn(sdk: anthropic.AsyncAnthropic) -> None:
    small = await sdk.messages.count_tokens(model="claude-x", messages=[OPENING])
    large = await sdk.messages.count_tokens(model="claude-x", messages=[OPENING], system="x" * 4000)
    assert large.input_tokens >= small.input_tokens + 1000


async def test_faults_come_in_the_order_in_which_they_were_asked_for(
    base_url: str, sdk: anthropic.AsyncAnthropic
) -> None:
    await fault(base_url, {"status": 429, "retry_after": 1.5}, {"status": 529}, {"status": 500}, {"status": 401})
    seen = []
    for _ in range(4):
        with pytest.raises(anthropic.APIStatusError) as raised:
            await streamed(sdk, [OPENING])
        seen.append((raised.value.status_code, raised.value.type, raised.value.response.headers.get("retry-after")))
    assert seen == [
        (429, "rate_limit_error", "1.5"),
        (529, "overloaded_error", None),
        (500, "api_error", None),
        (401, "authentication_error", None),
    ]
    assert (await streamed(sdk, [OPENING])).stop_reason == "tool_use"


@pytest.mark.parametrize("broken", [{"cut": True}, {"garbage": True}, {"stall_s": 60}])
async def test_a_broken_stream_is_broken(base_url: str, sdk: anthropic.AsyncAnthropic, broken: dict[str, Any]) -> None:
    await fault(base_url, broken)
    with pytest.raises(Exception, match=r".*"):
        async with asyncio.timeout(2), asyncio.TaskGroup() as group:
            group.create_task(streamed(sdk, [OPENING]))
    assert (await streamed(sdk, [OPENING])).stop_reason == "tool_use"


async def test_a_rate_limit_rejects_as_the_api_does(tmp_path: Path) -> None:
    (tmp_path / "users-v2.yaml").write_text(RECORDING)
    limit = RateLimit(requests_per_s=1 / 60, burst=2, input_tokens_per_min=60_000, output_tokens_per_min=6_000)
    opening: Any = {"role": "user", "content": "Ticket users-v2: x"}
    async with (
        serve_rehearsal(tmp_path, limit=limit) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as sdk,
        httpx.AsyncClient() as http,
    ):
        await streamed(sdk, [opening])
        async with sdk.messages.stream(model="claude-x", max_tokens=9, messages=[opening]) as stream:
            headers = stream.response.headers
        assert headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert headers["anthropic-ratelimit-requests-limit"] == "1"
        assert headers["anthropic-ratelimit-input-tokens-limit"] == "60000"
        assert 59_900 < int(headers["anthropic-ratelimit-input-tokens-remaining"]) < 60_000
        assert 5_800 < int(headers["anthropic-ratelimit-output-tokens-remaining"]) < 6_000
        assert headers["anthropic-ratelimit-requests-reset"].endswith("+00:00")
        with pytest.raises(anthropic.RateLimitError) as raised:
            await streamed(sdk, [opening])
        assert 1 <= int(raised.value.response.headers["retry-after"]) <= 60
        assert raised.value.response.headers["anthropic-ratelimit-requests-remaining"] == "0"
        assert (await http.get(f"{url}/_calls")).json() == {"answered": 2, "rejected": 1}


async def test_a_rate_limit_may_keep_its_headers_to_itself(tmp_path: Path) -> None:
    (tmp_path / "users-v2.yaml").write_text(RECORDING)
    limit = RateLimit(requests_per_s=0.01, headers=False, retry_after=False)
    opening: Any = {"role": "user", "content": "Ticket users-v2: x"}
    async with (
        serve_rehearsal(tmp_path, limit=limit) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as sdk,
    ):
        await streamed(sdk, [opening])
        with pytest.raises(anthropic.RateLimitError) as raised:
            await streamed(sdk, [opening])
    assert not [name for name in raised.value.response.headers if "ratelimit" in name or name == "retry-after"]


@pytest.mark.parametrize(
    ("limit", "content"),
    [
        (RateLimit(input_tokens_per_min=60), "x" * 2_000),
        (RateLimit(output_tokens_per_min=5), "x"),
    ],
)
async def test_tokens_are_limited_and_a_request_larger_than_the_limit_passes_once(
    tmp_path: Path, limit: RateLimit, content: str
) -> None:
    (tmp_path / "users-v2.yaml").write_text(RECORDING)
    first: Any = {"role": "user", "content": f"Ticket users-v2: {content}"}
    second: Any = {"role": "user", "content": f"Ticket users-v2: {content} and more"}
    async with (
        serve_rehearsal(tmp_path, limit=limit) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as sdk,
    ):
        await streamed(sdk, [first])
        with pytest.raises(anthropic.RateLimitError):
            await streamed(sdk, [second])


async def test_what_is_read_from_the_cache_is_not_limited(tmp_path: Path) -> None:
    (tmp_path / "users-v2.yaml").write_text(RECORDING)
    mark: Any = {"type": "text", "text": "Ticket users-v2: " + "x" * 2_000, "cache_control": {"type": "ephemeral"}}
    async with (
        serve_rehearsal(tmp_path, limit=RateLimit(input_tokens_per_min=600)) as url,
        anthropic.AsyncAnthropic(base_url=url, api_key="any", max_retries=0) as sdk,
    ):
        for _ in range(5):
            await streamed(sdk, [{"role": "user", "content": [mark]}])


@pytest.mark.parametrize(
    "order",
    [{"next": [{}]}, {"next": [{"cut": True, "pings": True}]}, {"next": [{"cut": True, "status": 500}]}, {"now": []}],
)
async def test_an_order_that_makes_no_sense_is_refused(base_url: str, order: dict[str, Any]) -> None:
    async with httpx.AsyncClient() as client:
        assert (await client.post(f"{base_url}/_faults", json=order)).status_code == 400


async def test_a_repeated_prefix_is_read_from_the_cache(sdk: anthropic.AsyncAnthropic) -> None:
    mark: Any = {"cache_control": {"type": "ephemeral"}}
    system: Any = [{"type": "text", "text": "s" * 4000, **mark}]
    user: Any = {"role": "user", "content": [{"type": "text", "text": OPENING["content"], **mark}]}
    other: Any = [{"type": "text", "text": "t" + "s" * 3999, **mark}]
    calls = [
        await sdk.messages.create(model="claude-x", max_tokens=9, system=each, messages=[user])
        for each in (system, system, other)
    ]
    read = [call.usage.cache_read_input_tokens for call in calls]
    written = [call.usage.cache_creation_input_tokens for call in calls]
    assert read[0] == 0
    assert read[1] == written[0]
    assert (read[2], written[2]) == (0, written[0])


async def test_a_hundred_conversations_at_once(base_url: str, sdk: anthropic.AsyncAnthropic) -> None:
    async def converse(copy: int) -> str:
        opening: MessageParam = {"role": "user", "content": f"Ticket {COPIES[copy]}: x"}
        first = await streamed(sdk, [opening])
        results: Any = [
            {"type": "tool_result", "tool_use_id": block.id, "content": "old name" if copy % 2 else "none"}
            for block in first.content
            if isinstance(block, ToolUseBlock)
        ]
        said: Any = [block.to_dict() for block in first.content]
        last = await streamed(
            sdk, [opening, {"role": "assistant", "content": said}, {"role": "user", "content": results}]
        )
        return str(last.content[0].to_dict()["text"])

    said = await asyncio.gather(*(converse(copy) for copy in range(100)))
    assert said == ["I am stuck.", "Renamed."] * 50


async def test_a_recording_that_cannot_be_used_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("ticket: a\nturns: [{say: a, next: [{go: b}]}]\n")
    with pytest.raises(ConfigError, match="no turn has the id 'b'"):
        async with serve_rehearsal(tmp_path):
            pass
