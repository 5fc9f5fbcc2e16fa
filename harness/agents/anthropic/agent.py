"""The agent: one conversation a ticket, carried on until the model ends its turn.

The transcript is the only memory. Every message is on the disk before the next thing happens, so an agent that was
killed, or whose owner stopped it between two calls, goes on where it was: what the loop says in one iteration is said
once, so is what the user says, and a turn that had ended is not played again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import asdict, replace
from itertools import takewhile
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import httpx

from graphs.ports import Claim, Generated, Journal, Work, attempt_name, unclaimed
from harness.agents.anthropic.circles import same_calls
from harness.agents.anthropic.client import ModelClient, Reply
from harness.agents.anthropic.files import file_tools
from harness.agents.anthropic.layout import marked, system_blocks
from harness.agents.anthropic.prompt import (
    CUT_AT_LIMIT,
    CUT_CALL,
    GO_ON,
    LAST_CALLS,
    NOTE,
    REPEATED,
    REPEATED_IN_TURN,
    SYSTEM,
    WRAP_UP,
    WRAP_UP_REASON,
)
from harness.agents.anthropic.refusals import TooLong
from harness.agents.anthropic.running import RunningSystem
from harness.agents.anthropic.shell import Grounds, bash_tool
from harness.agents.anthropic.tools import Tool, by_name, own_tool
from harness.agents.anthropic.turn import DiagnosticsInput, ask_human_tool, question_in, results_of
from harness.agents.conversation import Block, text_block, tool_calls, tool_result
from harness.agents.meter import Meter, ModelCall, OutOfBudget
from harness.agents.notes import Notes
from harness.agents.transcript import FIRST, Entry, Transcript, carry_over
from sandbox.driver import Cursor, Driver
from tasks.errors import SandboxError
from tasks.text import one_line

Diagnostics = Callable[[Work], Awaitable[str]]
"""Runs the configured static checks in the worktree; what they said, as text for the model."""

WARNED_BEFORE: Final = 3
"""So many model calls before the last one of a turn the model is told."""
SAME_CALLS: Final = 4
"""After so many same calls with same results the model is told; after as many again the agent is stuck."""
_GOES_ON: Final = ("max_tokens", "pause_turn")
_LAST_WORDS: Final = ("refusal", "model_context_window_exceeded")
_BEGINNING: Final = Cursor(at=0.0, offset=0, dropped=0)


class AnthropicAgent:
    """Works on any number of tickets at once. Fulfils `graphs.ports.Agent`."""

    def __init__(
        self,
        client: ModelClient,
        *,
        meter: Meter,
        notes: Notes,
        driver: Driver,
        journal: Journal,
        transcripts: Path,
        grounds: Grounds,
        entry: str,
        turns: int,
        diagnostics: Diagnostics,
        claim: Claim = unclaimed,
    ) -> None:
        self._client, self._meter, self._notes = client, meter, notes
        self._driver, self._journal = driver, journal
        self._transcripts, self._grounds, self._entry = transcripts, grounds, entry
        self._turns, self._diagnostics, self._claim = turns, diagnostics, claim
        self._system = system_blocks(SYSTEM)
        # Plain http on loopback only: no certificates are loaded, no proxy of the environment is asked.
        self._http = httpx.AsyncClient(trust_env=False, verify=False)
        self._heard: dict[str, Cursor] = {}

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._http.aclose()
        await self._client.__aexit__(kind, error, trace)

    async def carry_on(self, work: Work, attempt: int) -> bool:
        """Take over what was said in an earlier attempt; see graphs.ports.Agent. Raises StoreError, LeaseLost."""
        earlier, mine = attempt_name(work.ticket.id, attempt), self._claim(work.ticket.id) or FIRST
        return await asyncio.to_thread(carry_over, self._transcripts, work.run, earlier, work.name, mine)

    async def generate(self, work: Work, message: str, iteration: int) -> Generated:
        """Say `message`, once an iteration, and go on until the model ends its turn. Raises ModelError, StoreError,
        SandboxError, LeaseLost, and what the meter raises to stop here; called again with the same, it goes on from
        there."""
        mine = self._claim(work.ticket.id) or FIRST
        transcript = await asyncio.to_thread(Transcript.open, self._transcripts, work.run, work.name, mine)
        turn = _this_turn(transcript.own)
        if not (turn and turn[0].iteration == iteration):
            await asyncio.to_thread(transcript.add, "loop", [text_block(message)], iteration=iteration)
        elif (ended := _ended(turn)) is not None:
            return replace(ended, noted=_noted(turn))
        try:
            ended = await self._until_end(work, transcript)
        except OutOfBudget as refused:
            ended = Generated("out_of_budget", refused.reason)
        except TooLong as refused:
            ended = Generated("stuck", f"the conversation no longer fits into the model's context: {refused}")
        await self._note_cursor(work)
        return replace(ended, noted=_noted(_this_turn(transcript.own)))

    async def _until_end(self, work: Work, transcript: Transcript) -> Generated:
        tools = by_name(self._tools(work))
        definitions = [tool.definition for tool in tools.values()]
        while (left := self._turns - _calls_made(_this_turn(transcript.own))) > 0:
            await self._tell_notes(work, transcript)
            if left == WARNED_BEFORE and self._turns > WARNED_BEFORE:
                await self._tell_once(transcript, LAST_CALLS.format(left=left))
            repeats, circle = same_calls(_since_news(transcript.own))
            if repeats >= 2 * SAME_CALLS:
                same = "the same tool call" if circle == 1 else f"one of the same {circle} tool calls"
                return Generated("stuck", f"{same} {repeats} times in a row, with the same result")
            if repeats == SAME_CALLS:
                words = REPEATED if circle == 1 else REPEATED_IN_TURN
                await self._tell_once(transcript, words.format(times=repeats, calls=circle))
            if not tool_calls(last := transcript.entries[-1].message) and last["role"] == "assistant":
                # Killed between a message that goes on and the word that it should.
                await self._tell(transcript, GO_ON)
            if (used := self._meter.nearly_spent(work.ticket.id)) is not None and not _wraps_up(transcript.own):
                await self._tell(transcript, WRAP_UP.format(used=used))
            self._doing(work, "thinking")
            reply = await self._client.call(
                work.ticket.id,
                system=self._system,
                tools=definitions,
                messages=marked(transcript.messages()),
                billed=lambda call: self._note_call(work, call),
            )
            await asyncio.to_thread(_keep, reply, transcript)
            if (ended := await self._after(reply, work, transcript, tools)) is not None:
                return ended
        return Generated("done", f"handed in what there was after {self._turns} model calls")

    async def _after(
        self, reply: Reply, work: Work, transcript: Transcript, tools: Mapping[str, Tool]
    ) -> Generated | None:
        """Do what the reply asks for; how the turn ends, or None when it goes on."""
        calls = tool_calls({"role": "assistant", "content": reply.content})
        cut = reply.stop_reason == "max_tokens"
        if calls and reply.stop_reason not in _LAST_WORDS:
            last_is_cut = cut and reply.content[-1]["type"] == "tool_use"
            whole = calls[:-1] if last_is_cut else calls
            results = await results_of(whole, tools, begins=lambda doing: self._doing(work, doing))
            if last_is_cut:
                why = CUT_CALL.format(max_tokens=self._client.max_tokens)
                results.append(tool_result(calls[-1]["id"], why, is_error=True))
            await asyncio.to_thread(transcript.add, "tools", results)
        elif reply.stop_reason in _GOES_ON:
            await self._tell(transcript, CUT_AT_LIMIT.format(max_tokens=self._client.max_tokens) if cut else GO_ON)
        return _ended(_this_turn(transcript.own))

    def _tools(self, work: Work) -> Sequence[Tool]:
        worktree = Path(work.worktree)
        running = RunningSystem(
            self._driver, self._http, work.sandbox, self._entry, self._heard.get(work.sandbox, _BEGINNING)
        )

        async def diagnose(_: DiagnosticsInput) -> str:
            return await self._diagnostics(work)

        diagnostics = own_tool(
            "diagnostics",
            "Run the project's own linters and type checkers on the working directory as it is now. They run on what "
            "you hand in too, before anything is started.",
            DiagnosticsInput,
            diagnose,
            # A checker reads many files: none of them may change meanwhile.
            reads_only=False,
        )
        return [
            bash_tool(worktree, self._grounds),
            *file_tools(worktree),
            diagnostics,
            *running.tools(),
            ask_human_tool(),
        ]

    async def _tell(self, transcript: Transcript, text: str) -> None:
        await asyncio.to_thread(transcript.add, "harness", [text_block(text)])

    async def _tell_once(self, transcript: Transcript, text: str) -> None:
        """Tell what may have been told before the agent was stopped."""
        since = takewhile(lambda entry: entry.origin != "agent", reversed(transcript.entries))
        if all(entry.content != [text_block(text)] for entry in since):
            await self._tell(transcript, text)

    async def _tell_notes(self, work: Work, transcript: Transcript) -> None:
        """Tell what the user has said. Each note is on the disk before it is known to be told: the other way round, one
        that was not told could pass for one that was."""
        if not (waiting := self._notes.waiting(work)):
            return
        known = {entry.note for entry in transcript.entries}
        for note in waiting:
            if note.id not in known:
                said = [text_block(NOTE.format(text=note.text))]
                await asyncio.to_thread(transcript.add, "user", said, note=note.id)
        await self._notes.told(work, waiting)

    def _note_call(self, work: Work, call: ModelCall) -> Future[Any]:
        return self._journal.emit("model.call", work.ticket.id, asdict(call))

    def _doing(self, work: Work, doing: str) -> None:
        self._journal.emit("agent.activity", work.ticket.id, {"doing": doing})

    async def _note_cursor(self, work: Work) -> None:
        """Remember where the agent's next news begin: what the coming validation does."""
        try:
            self._heard[work.sandbox] = await self._driver.cursor()
        except SandboxError:
            # The loop finds out by itself; here it only means that the agent sees older exchanges once more.
            self._heard.pop(work.sandbox, None)


def _keep(reply: Reply, transcript: Transcript) -> None:
    """Have the answer on the disk, after what it cost: an answer that nobody knows the price of would be for free. In a
    thread, which waits for both."""
    reply.noted.result()
    transcript.add("agent", reply.content, stop_reason=reply.stop_reason)


def _this_turn(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The entries since, and with, what the loop said last."""
    starts = [index for index, entry in enumerate(entries) if entry.origin == "loop"]
    return entries[starts[-1] :] if starts else []


def _since_news(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The entries since loop or user said something last: what stood still before may move by that."""
    news = [index for index, entry in enumerate(entries) if entry.origin in ("loop", "user")]
    return entries[news[-1] :] if news else []


def _noted(turn: Sequence[Entry]) -> bool:
    """Whether the user said something in the turn."""
    return any(entry.origin == "user" for entry in turn)


def _wraps_up(entries: Sequence[Entry]) -> bool:
    """Whether the agent was told that its budget comes to an end, at any time before in this attempt."""
    told = (entry.content[0].get("text", "") for entry in entries if entry.origin == "harness")
    return any(text.startswith(WRAP_UP_REASON) for text in told)


def _ended(turn: Sequence[Entry]) -> Generated | None:
    """How the turn has ended, by what was said in it; None when it goes on. Needs nothing but the transcript."""
    index = next((index for index in reversed(range(len(turn))) if turn[index].origin == "agent"), None)
    if index is None:
        return None
    said, answered = turn[index], len(turn) > index + 1
    calls = tool_calls(said.message)
    if said.stop_reason == "refusal":
        return Generated("needs_human", "the model refused to work on this ticket")
    if said.stop_reason == "model_context_window_exceeded":
        return Generated("stuck", "the conversation fills the model's context")
    if not answered:
        return None if calls or said.stop_reason in _GOES_ON else Generated("done", _last_words(said.content))
    if (question := question_in(_made(calls, turn[index + 1]))) is not None:
        return Generated("needs_human", one_line(question, 500))
    return None


def _made(calls: Sequence[Block], results: Entry) -> list[Block]:
    """The calls that were made and went well."""
    went_well = {block.get("tool_use_id") for block in results.content if not block.get("is_error")}
    return [call for call in calls if call["id"] in went_well]


def _calls_made(turn: Sequence[Entry]) -> int:
    return sum(entry.origin == "agent" for entry in turn)


def _last_words(content: Sequence[Block]) -> str:
    return one_line(" ".join(block["text"] for block in content if block["type"] == "text"))
