"""The file tools, as the SDK has them and models know them, kept inside of the worktree and out of `.git`.

`read`, `write`, `edit` and `glob` are the SDK's own. `grep` has the SDK's name and schema but searches in a process of
its own: an expression that backtracks for ever would hold every agent's loop, not only its own.

Their texts are not redacted: an edit must name a file's text exactly, and the file is the repository's own.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import cache
from pathlib import Path
from typing import Any, Final

from anthropic.lib.tools import BetaAsyncFunctionTool, ToolError
from anthropic.lib.tools.agent_toolset import (
    AgentToolContext,
    beta_edit_tool,
    beta_glob_tool,
    beta_grep_tool,
    beta_read_tool,
    beta_write_tool,
    resolve_path,
)
from pydantic import ValidationError

from harness.agents.anthropic import search
from harness.agents.anthropic.tools import Answer, Tool, fit, misfit
from harness.commands import run, scrubbed_env

_GREP_TIMEOUT_S: Final = 30.0
_DESCRIPTIONS: Final = {
    "read": (
        "Read a file of the working directory. `view_range` gives the first and the last line, counted from 1; "
        "of long answers the middle is left out, so ask for a range then."
    ),
    "write": "Write a whole file, with the folders that it needs. To change a part of a file use `edit`.",
    "edit": (
        "Replace text in a file. `old_string` must be the exact text, and occur once unless `replace_all` is true."
    ),
    "glob": "List files that match a glob pattern such as `services/**/*.py`, newest first.",
    "grep": (
        "Search the files that git tracks or would track for a regular expression (Python's). `path` is a file or "
        "folder, by default the whole working directory. Answers lines as path:line:text."
    ),
}


_WORKTREE: ContextVar[str] = ContextVar("worktree")


class _Worktree:
    """The work tree of whoever calls, as a path: the SDK builds its tools for one folder, and that takes too long to
    be done once a ticket."""

    def __fspath__(self) -> str:
        return _WORKTREE.get()


@cache
def _sdk() -> tuple[AgentToolContext, Mapping[str, BetaAsyncFunctionTool[Any]]]:
    context = AgentToolContext(workdir=_Worktree())
    makers = (beta_read_tool, beta_write_tool, beta_edit_tool, beta_glob_tool, beta_grep_tool)
    return context, {tool.name: tool for tool in (make(context) for make in makers)}


def file_tools(worktree: Path) -> list[Tool]:
    """The five file tools of one worktree."""
    root = worktree.resolve()
    return [
        _sdk_tool("read", root, "file_path"),
        _writing(_sdk_tool("write", root, "file_path"), root),
        _writing(_sdk_tool("edit", root, "file_path"), root),
        _sdk_tool("glob", root, "pattern"),
        _grep(root),
    ]


def _sdk_tool(name: str, root: Path, shown: str) -> Tool:
    tool = _sdk()[1][name]

    async def answer(given: Mapping[str, Any]) -> Answer:
        # The SDK's tools read and write on the spot: not in our loop.
        return await asyncio.to_thread(asyncio.run, _answer(tool, root, given))

    return Tool(name, _DESCRIPTIONS[name], _lean(name), answer, _showing(shown))


def _resolved(root: Path, path: str) -> Path:
    """`path` as the SDK resolves it. Raises ValueError where it leads out of the work tree."""
    _WORKTREE.set(str(root))
    return resolve_path(_sdk()[0], path)


async def _answer(tool: BetaAsyncFunctionTool[Any], root: Path, given: Mapping[str, Any]) -> Answer:
    _WORKTREE.set(str(root))
    try:
        content = await tool.call(dict(given))
    except ToolError as error:
        return Answer(_text(error.content, root), is_error=True)
    except ValueError as error:
        cause = error.__cause__
        said = misfit(tool.name, cause) if isinstance(cause, ValidationError) else f"{tool.name}: {error}"
        return Answer(fit(said, redacted=False), is_error=True)
    if isinstance(content, str):
        return Answer(_text(content, root))
    return Answer([dict(block) for block in content])


def _writing(tool: Tool, root: Path) -> Tool:
    async def answer(given: Mapping[str, Any]) -> Answer:
        path = given.get("file_path")
        if isinstance(path, str) and _in_git(path, root):
            return Answer(f"{tool.name}: {path}: .git is not yours to change", is_error=True)
        return await tool.answer(given)

    return Tool(tool.name, tool.description, tool.schema, answer, tool.doing, reads_only=False)


def _in_git(path: str, root: Path) -> bool:
    """Whether `path`, as written or as it resolves, lies in a `.git` of any spelling that a disk may fold together."""
    try:
        resolved = _resolved(root, path)
    except (ValueError, OSError):
        return False
    parts = (*Path(path).parts, *resolved.relative_to(root).parts)
    return any(part.casefold().rstrip(". ") == ".git" for part in parts)


def _grep(root: Path) -> Tool:
    async def answer(given: Mapping[str, Any]) -> Answer:
        pattern, path = given.get("pattern"), given.get("path") or "."
        if not isinstance(pattern, str) or not isinstance(path, str):
            return Answer("grep: `pattern` is wanted, a text; `path`, if given, is a text", is_error=True)
        try:
            re.compile(pattern)
            target = _resolved(root, path)
        except (re.error, ValueError, OverflowError, RecursionError) as error:
            return Answer(f"grep: {error}", is_error=True)
        argv = [sys.executable, "-I", search.__file__, pattern, str(target.relative_to(root))]
        # Our own program, which only reads; the expression is the model's, and can do no more than take time.
        found = await run(argv, cwd=root, env=scrubbed_env(), timeout_s=_GREP_TIMEOUT_S, cage=None)
        if found.timed_out:
            return Answer(f"grep: no end within {_GREP_TIMEOUT_S:g} s: use a simpler expression", is_error=True)
        return Answer(_text(found.output or "no matches", root), is_error=found.code not in (0, 1))

    return Tool("grep", _DESCRIPTIONS["grep"], _lean("grep"), answer, _showing("pattern", "path"))


def _text(content: Any, root: Path) -> str:
    """Text, or blocks with text, as the model gets it."""
    text = content if isinstance(content, str) else "\n".join(str(block.get("text", "")) for block in content)
    # Where the worktree lies is of no use to the model, and would differ from run to run.
    return fit(text.replace(f"{root}/", ""), redacted=False)


@cache
def _lean(name: str) -> Mapping[str, Any]:
    """The SDK's schema of a tool without the words that it was generated with."""
    schema = dict(_sdk()[1][name].input_schema)
    properties: Any = schema["properties"]
    lean = {key: {word: value for word, value in prop.items() if word != "title"} for key, prop in properties.items()}
    return {"type": "object", "properties": lean, "required": schema.get("required", [])}


def _showing(*names: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda given: " ".join(str(given[name]) for name in names if given.get(name))
