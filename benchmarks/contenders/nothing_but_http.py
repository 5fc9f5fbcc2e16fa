"""Nothing but HTTP: what the provider and the machine take of the time, whoever asks. No store, no tools, no SDK."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
from lap import PROMPT, Lap, Watch, told


async def worked(http: aiohttp.ClientSession, url: str, ticket: str) -> None:
    """The conversation of one ticket."""
    messages: list[dict[str, Any]] = [{"role": "user", "content": PROMPT.format(ticket=ticket)}]
    while True:
        request = {"model": "claude-sonnet-5-5", "max_tokens": 16_000, "messages": messages}
        async with http.post(f"{url}/v1/messages", json=request, headers={"x-api-key": "any"}) as answer:
            content = (await answer.json())["content"]
        calls = [block["id"] for block in content if block["type"] == "tool_use"]
        if not calls:
            return
        results = [{"type": "tool_result", "tool_use_id": call, "content": "one"} for call in calls]
        messages += [{"role": "assistant", "content": content}, {"role": "user", "content": results}]


async def main(lap: Lap) -> None:
    waiting, done = list(lap.tickets), 0
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        watch = Watch()

        async def agent() -> None:
            nonlocal done
            while waiting:
                await worked(http, lap.url, waiting.pop())
                done += 1

        await asyncio.gather(*(agent() for _ in range(lap.agents)))
        watch.stop(done)


if __name__ == "__main__":
    asyncio.run(main(told()))
