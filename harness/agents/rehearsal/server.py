"""The rehearsal server: the Messages API on a port of loopback, in this process' own loop.

    async with serve_rehearsal(Path("recordings")) as base_url: ...

It keeps no conversation: every request brings its own. `POST /_faults` makes the next calls go wrong, `GET /_calls`
says how many were answered and how many the rate limit rejected.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import math
import socket
from collections.abc import AsyncIterator, Generator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Final

import uvicorn
from pydantic import ValidationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from harness.agents.rehearsal.cache import PrefixCache
from harness.agents.rehearsal.faults import Fault, FaultOrder, Faults
from harness.agents.rehearsal.limits import NO_LIMIT, RateLimit, RateLimiter
from harness.agents.rehearsal.play import Answer, answer, recording_for, ticket_of
from harness.agents.rehearsal.recording import Recording, read_recordings
from harness.agents.rehearsal.wire import MessagesRequest, error_body, event, message_body, output_tokens, stream_events

_FAULT_MESSAGES: Final = {
    400: "the request is not valid",
    401: "invalid x-api-key",
    403: "your API key does not have permission to use the specified resource",
    429: "this request would exceed your rate limit",
    500: "internal server error",
    529: "overloaded",
}
# The largest request body of the real API is 32 MB.
_MAX_BODY_BYTES: Final = 32 * 1024 * 1024
_BACKLOG: Final = 1024
_PING_S: Final = 0.2


class _Refused(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, message: str, headers: Mapping[str, str] = MappingProxyType({})) -> None:
        super().__init__(message)
        self.status, self.message, self.headers = status, message, headers


class Rehearsal:
    """Plays the recordings: the API's endpoints, as methods."""

    def __init__(
        self,
        folder: Path,
        recordings: Mapping[str, Recording],
        copies: Mapping[str, str],
        *,
        latency_s: float,
        limit: RateLimit,
    ) -> None:
        self._folder, self._recordings, self._copies, self._latency_s = folder, recordings, copies, latency_s
        self._faults, self._cache, self._numbers = Faults(), PrefixCache(), itertools.count(1)
        self._limiter = RateLimiter(limit)

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/messages", self._messages, methods=["POST"]),
                Route("/v1/messages/count_tokens", self._count_tokens, methods=["POST"]),
                Route("/_faults", self._order_faults, methods=["POST"]),
                Route("/_calls", self._count_calls),
            ]
        )

    async def _messages(self, request: Request) -> Response:
        request_id, clock = f"req_rehearsal{next(self._numbers):08d}", asyncio.get_running_loop().time
        fault, until = self._faults.take(), clock() + self._latency_s
        try:
            if fault is not None and fault.status is not None:
                raise _Refused(fault.status, fault.message or _FAULT_MESSAGES.get(fault.status, "an error"))
            wanted = await _read(request)
            reply = self._reply(wanted)
            self._admit(wanted)
        except _Refused as refused:
            return _refusal(refused, request_id, fault)
        # What it took to read the request is a part of it: many that come at once would wait for one another, too.
        await asyncio.sleep(max(0.0, until - clock()))
        prompt = self._cache.count(wanted.prompt())
        self._limiter.gave(output_tokens(reply))
        headers = {"request-id": request_id, **self._limiter.headers()}
        if not wanted.stream:
            if fault is not None and fault.stall_s is not None:
                await asyncio.sleep(fault.stall_s)
            elif fault is not None:
                return Response(b'{"garbage', media_type="application/json", headers=headers)
            return JSONResponse(message_body(reply, wanted.model, prompt, request_id), headers=headers)
        events = list(stream_events(reply, wanted.model, prompt, request_id))
        if fault is None:
            # One write: a rehearsal of a hundred agents has better things to do than a hundred wake-ups a message.
            return Response(b"".join(events), media_type="text/event-stream", headers=headers)
        return _Broken(events, fault, headers)

    def _reply(self, wanted: MessagesRequest) -> Answer:
        if (problem := wanted.flaw()) is not None:
            raise _Refused(400, problem)
        ticket = ticket_of(wanted.messages)
        if ticket is None:
            raise _Refused(404, "the first line of the first message must be 'Ticket <id>: <title>'")
        recording = recording_for(ticket, self._recordings, self._copies)
        if recording is None:
            raise _Refused(404, f"no recording for ticket {ticket!r} in {self._folder}")
        return answer(recording, wanted.messages, ticket)

    def _admit(self, wanted: MessagesRequest) -> None:
        prompt = self._cache.count(wanted.prompt(), remember=False) if self._limiter.counts_input else None
        if (wait_s := self._limiter.admit(prompt.fresh + prompt.cache_write if prompt else 0)) is not None:
            raise _Refused(429, _FAULT_MESSAGES[429], self._limiter.headers(wait_s))

    async def _count_calls(self, request: Request) -> Response:
        return JSONResponse({"answered": self._limiter.answered, "rejected": self._limiter.rejected})

    async def _count_tokens(self, request: Request) -> Response:
        try:
            wanted = await _read(request, defaults={"max_tokens": 1})
        except _Refused as refused:
            return _refusal(refused, "req_rehearsal_count", None)
        prompt = PrefixCache().count(wanted.prompt())
        return JSONResponse({"input_tokens": prompt.fresh + prompt.cache_read + prompt.cache_write})

    async def _order_faults(self, request: Request) -> Response:
        try:
            self._faults.order(FaultOrder.model_validate_json(await request.body()).next)
        except ValidationError as error:
            return JSONResponse({"error": error.errors(include_url=False, include_context=False)}, 400)
        return JSONResponse({"waiting": len(self._faults)})


async def _read(request: Request, defaults: Mapping[str, object] | None = None) -> MessagesRequest:
    if "x-api-key" not in request.headers and "authorization" not in request.headers:
        raise _Refused(401, "x-api-key header is required")
    body = await request.body()
    if len(body) > _MAX_BODY_BYTES:
        raise _Refused(413, "request exceeds the maximum size")
    try:
        data = json.loads(body)
        return MessagesRequest.model_validate({**(defaults or {}), **data})
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise _Refused(400, f"{place}: {first['msg']}") from None
    except (ValueError, TypeError):
        raise _Refused(400, "the body is not a JSON object") from None


def _refusal(refused: _Refused, request_id: str, fault: Fault | None) -> Response:
    headers = {"request-id": request_id, **refused.headers}
    if fault is not None and fault.retry_after is not None:
        headers["retry-after"] = f"{fault.retry_after:g}"
    return JSONResponse(error_body(refused.status, refused.message, request_id), refused.status, headers)


class _Broken(StreamingResponse):
    """A stream that begins well and then goes wrong."""

    def __init__(self, events: list[bytes], fault: Fault, headers: Mapping[str, str]) -> None:
        super().__init__(self._events(events, fault), media_type="text/event-stream", headers=headers)
        self._cut = fault.cut

    @staticmethod
    async def _events(events: list[bytes], fault: Fault) -> AsyncIterator[bytes]:
        half = len(events) // 2
        for piece in events[:half]:
            yield piece
        if fault.garbage:
            yield b'event: content_block_delta\ndata: {"type": "content_block_delta", "ind\n\n'
        if fault.stall_s is not None:
            for _ in range(math.ceil(fault.stall_s / _PING_S) if fault.pings else 0):
                await asyncio.sleep(_PING_S)
                yield event("ping", {})
            await asyncio.sleep(0 if fault.pings else fault.stall_s)
        if not fault.cut:
            for piece in events[half:]:
                yield piece

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._cut:
            await super().__call__(scope, receive, send)
            return
        await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
        async for piece in self.body_iterator:
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        # An answer without an end makes the server close the connection.


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        # Signals belong to whoever owns the process.
        yield


@contextlib.asynccontextmanager
async def serve_rehearsal(
    folder: Path,
    *,
    copies: Mapping[str, str] = MappingProxyType({}),
    latency_s: float = 0.0,
    limit: RateLimit = NO_LIMIT,
) -> AsyncIterator[str]:
    """Serve the recordings of `folder` on a free port; yields the base URL. Every call takes `latency_s` longer, and
    `limit` rejects those that are too many.

    A ticket of `copies` (id of the copy to id of the original) plays its original's recording, unless it has its own.
    Raises ConfigError where a recording cannot be used."""
    rehearsal = Rehearsal(folder, read_recordings(folder), copies, latency_s=latency_s, limit=limit)
    config = uvicorn.Config(
        rehearsal.app(),
        log_config=None,
        log_level="critical",
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=0,
        # Longer than clients keep a connection: who closes second never finds it closed.
        timeout_keep_alive=75,
    )
    server = _Server(config)
    with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
        port: int = listener.getsockname()[1]
        serving = asyncio.create_task(server.serve([listener]), name="rehearsal server")
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            await serving
