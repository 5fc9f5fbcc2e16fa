"""What a tool is: a name, a schema, and a coroutine that answers; and how answers are made fit for the model.

A tool never raises at the model's input: what is wrong with it is an answer, marked as an error. Errors of ours (a
driver that failed, a full disk) pass through.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from harness.agents.conversation import Block
from sandbox.exchanges import redact
from tasks.text import capped, one_line, plain

OUTPUT_LIMIT_CHARS: Final = 30_000


class ToolInput(BaseModel):
    """The base of the inputs of our own tools."""

    model_config = ConfigDict(extra="forbid", frozen=True)


Input = TypeVar("Input", bound=ToolInput)


class Declined(Exception):
    """The tool cannot do what was asked, said to the model: a signal, no error of the user's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool call gave: text, or blocks where it is a picture."""

    content: str | list[Block]
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool, ready to be called."""

    name: str
    description: str
    schema: Mapping[str, Any]
    answer: Callable[[Mapping[str, Any]], Awaitable[Answer]]
    doing: Callable[[Mapping[str, Any]], str]
    """What a call does, for people: a few words after the tool's name."""
    reads_only: bool = True
    """Whether it may run beside others: it changes nothing in the worktree."""

    @property
    def definition(self) -> Block:
        """The tool as a request names it."""
        return {"name": self.name, "description": self.description, "input_schema": dict(self.schema)}

    def activity(self, given: Mapping[str, Any]) -> str:
        """One plain line: what a call with this input does."""
        return one_line(f"{self.name} {self.doing(given)}".strip(), 120)


def own_tool(
    name: str,
    description: str,
    shape: type[Input],
    answer: Callable[[Input], Awaitable[str]],
    *,
    doing: Callable[[Mapping[str, Any]], str] = lambda _: "",
    reads_only: bool = True,
    redacted: bool = True,
) -> Tool:
    """A tool of ours: its input is checked against `shape`, its text made plain, redacted and short."""

    async def checked(given: Mapping[str, Any]) -> Answer:
        try:
            return Answer(fit(await answer(shape.model_validate(given)), redacted=redacted))
        except ValidationError as error:
            return Answer(misfit(name, error), is_error=True)
        except Declined as declined:
            return Answer(fit(str(declined), redacted=redacted), is_error=True)

    return Tool(name, description, _schema(shape), checked, doing, reads_only)


def fit(text: str, *, redacted: bool) -> str:
    """`text` as a model gets it: no control sequences, no secrets, head and tail of what is long, never empty."""
    clean = plain(text)
    clean = redact(clean) if redacted else clean
    return capped(clean, OUTPUT_LIMIT_CHARS) if clean.strip() else "(no output)"


def by_name(tools: Iterable[Tool]) -> Mapping[str, Tool]:
    return {tool.name: tool for tool in tools}


@cache
def _schema(shape: type[ToolInput]) -> dict[str, Any]:
    schema = shape.model_json_schema()
    schema.pop("title", None)
    schema.pop("description", None)
    for prop in schema.get("properties", {}).values():
        prop.pop("title", None)
    return schema


def misfit(name: str, error: ValidationError) -> str:
    """What is wrong with a tool's input, in words that say how to mend it."""
    problems = (
        f"- {'.'.join(str(part) for part in problem['loc']) or 'input'}: {problem['msg']}"
        for problem in error.errors(include_url=False, include_context=False, include_input=False)
    )
    return f"{name}: the input does not fit the tool's schema:\n" + "\n".join(problems)
