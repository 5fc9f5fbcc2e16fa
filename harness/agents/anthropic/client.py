"""One model call, through the official SDK: streamed, limited in time, repeated where that can help, and charged.

What always holds: the SDK itself never repeats a call; a slot is held while a call is in flight and never while
waiting; every answer that was billed is charged, a broken one too; a call ends within its limits even when the
connection hangs without an error.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, Self

import anthropic
import httpx2
import tenacity

from harness.agents.anthropic.answer import Answer
from harness.agents.anthropic.estimate import Estimate, chars
from harness.agents.anthropic.headers import allowances_in
from harness.agents.anthropic.refusals import TRANSIENT_STATUS, no_key, permanent, trouble_of
from harness.agents.conversation import Block, Message
from harness.agents.meter import BROKEN, CallFailed, Meter, ModelCall, Slot, Wanted
from harness.agents.usage import price_usd
from tasks.errors import ModelError

_CONNECT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class CallLimits:
    """How long a call may take, and how it is repeated. Times are in seconds."""

    wall_s: float = 900.0
    """One try, from the request to the last byte of its answer."""
    idle_s: float = 120.0
    """Without a byte; the API sends pings while a model thinks."""
    tries: int = 10
    first_wait_s: float = 1.0
    longest_wait_s: float = 60.0
    """The waits are random between 0 and a bound that doubles from the first to the longest ('full jitter')."""
    longest_retry_after_s: float = 120.0
    """As much of a server's `retry-after` is obeyed."""


Billed = Callable[[ModelCall], Future[Any]]
"""Hears of every answer that was billed, also of one that broke off; what it returns is done when that is noted."""


def _unnoted(call: ModelCall) -> Future[Any]:
    done: Future[Any] = Future()
    done.set_result(None)
    return done


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole answer of the model."""

    content: list[Block]
    stop_reason: str
    call: ModelCall
    noted: Future[Any]
    """Done when it is on the disk that the call was billed: whoever keeps the answer waits for that first."""


class ModelClient:
    """The model, for as long as it is entered. Calls may run side by side."""

    def __init__(
        self,
        *,
        model: str,
        max_tokens: int,
        meter: Meter,
        base_url: str | None = None,
        api_key: str | None = None,
        limits: CallLimits | None = None,
    ) -> None:
        """`base_url` and `api_key` win over ANTHROPIC_BASE_URL and ANTHROPIC_API_KEY. Raises ModelError where the SDK
        cannot use what it is given."""
        self._model, self._max_tokens, self._meter = model, max_tokens, meter
        self._limits, self._estimate = limits or CallLimits(), Estimate()
        timeout = httpx2.Timeout(self._limits.idle_s, connect=_CONNECT_S)
        try:
            self._sdk = anthropic.AsyncAnthropic(
                base_url=base_url,
                api_key=api_key,
                max_retries=0,
                timeout=timeout,
                # A stream comes in many small pieces: of the SDK's transports this takes least for each.
                http_client=anthropic.DefaultAioHttpClient(timeout=timeout),
            )
        except anthropic.AnthropicError as error:
            raise ModelError(f"the model's client cannot be set up: {error}", hint="check ANTHROPIC_API_KEY") from error

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._sdk.close()

    @property
    def max_tokens(self) -> int:
        """Output tokens of one call, at most."""
        return self._max_tokens

    async def call(
        self,
        ticket: str,
        *,
        system: Sequence[Block],
        tools: Sequence[Block],
        messages: Sequence[Message],
        billed: Billed = _unnoted,
    ) -> Reply:
        """The model's answer to `messages`. Raises ModelError when it refuses for good or after the last try, and
        whatever the meter raises when it lets no (further) try start."""
        limits, notes = self._limits, list[Future[Any]]()

        def note(call: ModelCall) -> Future[Any]:
            notes.append(billed(call))
            return notes[-1]

        async def rest(seconds: float) -> None:
            while notes:
                # Whoever is cancelled here must not take back what is to be written.
                await asyncio.shield(asyncio.wrap_future(notes.pop()))
            await self._meter.wait(ticket, seconds)

        # The layout is checked by the API, not by types: blocks come back exactly as they went.
        request: dict[str, Any] = {"system": system, "tools": tools, "messages": messages}
        retrying = tenacity.AsyncRetrying(
            stop=tenacity.stop_after_attempt(limits.tries),
            wait=_Backoff(limits),
            retry=tenacity.retry_if_exception_type(CallFailed),
            sleep=rest,
            reraise=True,
        )
        try:
            reply: Reply = await retrying(self._try, ticket, request, note)
        except CallFailed as failed:
            raise ModelError(
                f"the model gave no answer in {limits.tries} tries; the last one: {failed.message}",
                hint="resume the run when the API is reachable and its limits allow it",
            ) from failed
        return reply

    async def _try(self, ticket: str, request: dict[str, Any], billed: Billed) -> Reply:
        length = chars(tuple(request.values()))
        wanted = Wanted(self._estimate.uncached_tokens(ticket, length), self._max_tokens)
        async with self._meter.call(ticket, wanted) as slot:
            began = time.monotonic()
            answer = Answer()

            def charge(stop_reason: str) -> tuple[ModelCall, Future[Any]]:
                call = _charged(answer, stop_reason, time.monotonic() - began)
                slot.charge(call)
                return call, billed(call)

            try:
                async with asyncio.timeout(self._limits.wall_s):
                    content, stop_reason = await self._stream(request, slot, answer)
            except BaseException as error:
                if answer.model is not None:
                    charge(BROKEN)
                explained = self._explained(error, slot)
                if explained is error:
                    raise
                raise explained from error
            call, noted = charge(stop_reason)
        self._estimate.answered(ticket, length)
        return Reply(content, stop_reason, call, noted)

    async def _stream(self, request: dict[str, Any], slot: Slot, answer: Answer) -> tuple[list[Block], str]:
        """The whole answer, and why it ended; what came of it before an error is in `answer`."""
        whole = {"model": self._model, "max_tokens": self._max_tokens, "stream": True, **request}
        # Not by `messages.create`: that copies the whole conversation, block by block in Python, at every call.
        sent = self._sdk.post(
            "/v1/messages",
            content=json.dumps(whole, ensure_ascii=False, separators=(",", ":")).encode(),
            cast_to=anthropic.types.Message,
            stream=True,
            stream_cls=anthropic.AsyncStream[anthropic.types.RawMessageStreamEvent],
        )
        async with await sent as stream:
            slot.told(allowances_in(stream.response.headers))
            async for event in stream.raw_events(stream.response):
                if event.event == "error":
                    raise anthropic.APIStatusError(event.data, response=stream.response, body=event.json())
                if event.event not in (None, "ping") and event.data:
                    answer.take(event.json())
        if answer.stop_reason is None:
            raise CallFailed("garbled", "the answer ended before its end")
        return answer.content(), answer.stop_reason

    def _explained(self, error: BaseException, slot: Slot) -> BaseException:
        """What `error` means to us: to be repeated, to be told to the user, or none of our business."""
        if isinstance(error, TimeoutError):
            return CallFailed("unreachable", f"no whole answer within {self._limits.wall_s:g} s")
        if isinstance(error, anthropic.APIStatusError):
            slot.told(allowances_in(error.response.headers))
            if error.status_code not in TRANSIENT_STATUS:
                return permanent(error, self._model)
        if (refusal := no_key(error)) is not None:
            return refusal
        if (failed := trouble_of(error)) is not None and failed.retry_after_s is not None:
            failed.retry_after_s = min(failed.retry_after_s, self._limits.longest_retry_after_s)
        return failed or error


def _charged(answer: Answer, stop_reason: str, seconds: float) -> ModelCall:
    assert answer.model is not None
    tokens = {
        "input_tokens": answer.usage["input_tokens"],
        "output_tokens": answer.usage["output_tokens"],
        "cache_read_tokens": answer.usage["cache_read_input_tokens"],
        "cache_write_tokens": answer.usage["cache_creation_input_tokens"],
    }
    price = price_usd(answer.model, **tokens)
    return ModelCall(
        model=answer.model,
        **tokens,
        cost_usd=price or 0.0,
        seconds=seconds,
        stop_reason=stop_reason,
        priced=price is not None,
    )


class _Backoff(tenacity.wait.wait_base):
    """Full jitter; and never sooner than the server asked for."""

    def __init__(self, limits: CallLimits) -> None:
        self._jitter = tenacity.wait_random_exponential(multiplier=limits.first_wait_s, max=limits.longest_wait_s)

    def __call__(self, retry_state: tenacity.RetryCallState) -> float:
        failure = retry_state.outcome.exception() if retry_state.outcome else None
        asked_s = failure.retry_after_s if isinstance(failure, CallFailed) else None
        return self._jitter(retry_state) + (asked_s or 0.0)
