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

from harness.agents.anthropic import search
from harness.agents.anthropic.tools import Answer, Tool, fit
from harness.confine import run, scrubbed_env

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


def file_tools(worktree: Path) -> list[Tool]:
    """The five file tools of one worktree."""
    root = worktree.resolve()
    context = AgentToolContext(workdir=root)
    reading = [
        _sdk_tool(beta_read_tool(context), root, "file_path"),
        _sdk_tool(beta_glob_tool(context), root, "pattern"),
    ]
    writing = [
        _writing(_sdk_tool(make(context), root, "file_path"), root) for make in (beta_write_tool, beta_edit_tool)
    ]
    return [reading[0], *writing, reading[1], _grep(context, root)]


def _sdk_tool(tool: BetaAsyncFunctionTool[Any], root: Path, shown: str) -> Tool:
    async def answer(given: Mapping[str, Any]) -> Answer:
        # The SDK's tools read and write on the spot: not in our loop.
        return await asyncio.to_thread(asyncio.run, _answer(tool, root, given))

    return Tool(tool.name, _DESCRIPTIONS[tool.name], _lean(tool.input_schema), answer, _showing(shown))


async def _answer(tool: BetaAsyncFunctionTool[Any], root: Path, given: Mapping[str, Any]) -> Answer:
    try:
        content = await tool.call(dict(given))
    except ToolError as error:
        return Answer(_text(error.content, root), is_error=True)
    except ValueError as error:
        return Answer(fit(f"{tool.name}: {error}", redacted=False), is_error=True)
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
        resolved = resolve_path(AgentToolContext(workdir=root), path)
    except (ValueError, OSError):
        return False
    parts = (*Path(path).parts, *resolved.relative_to(root).parts)
    return any(part.casefold().rstrip(". ") == ".git" for part in parts)


def _grep(context: AgentToolContext, root: Path) -> Tool:
    async def answer(given: Mapping[str, Any]) -> Answer:
        pattern, path = given.get("pattern"), given.get("path") or "."
        if not isinstance(pattern, str) or not isinstance(path, str):
            return Answer("grep: `pattern` is wanted, a text; `path`, if given, is a text", is_error=True)
        try:
            re.compile(pattern)
            target = resolve_path(context, path)
        except (re.error, ValueError, OverflowError, RecursionError) as error:
            return Answer(f"grep: {error}", is_error=True)
        argv = [sys.executable, "-I", search.__file__, pattern, str(target.relative_to(root))]
        # Our own program, which only reads; the expression is the model's, and can do no more than take time.
        found = await run(argv, cwd=root, env=scrubbed_env(), timeout_s=_GREP_TIMEOUT_S, cage=None)
        if found.timed_out:
            return Answer(f"grep: no end within {_GREP_TIMEOUT_S:g} s: use a simpler expression", is_error=True)
        return Answer(_text(found.output or "no matches", root), is_error=found.code not in (0, 1))

    tool = beta_grep_tool(context)
    return Tool(tool.name, _DESCRIPTIONS["grep"], _lean(tool.input_schema), answer, _showing("pattern", "path"))


def _text(content: Any, root: Path) -> str:
    """Text, or blocks with text, as the model gets it."""
    text = content if isinstance(content, str) else "\n".join(str(block.get("text", "")) for block in content)
    # Where the worktree lies is of no use to the model, and would differ from run to run.
    return fit(text.replace(f"{root}/", ""), redacted=False)


def _lean(schema: Mapping[str, Any]) -> dict[str, Any]:
    """The SDK's schema without the words that it was generated with."""
    properties = {
        name: {key: value for key, value in prop.items() if key != "title"}
        for name, prop in schema["properties"].items()
    }
    return {"type": "object", "properties": properties, "required": list(schema.get("required", []))}


def _showing(*names: str) -> Callable[[Mapping[str, Any]], str]:
    return lambda given: " ".join(str(given[name]) for name in names if given.get(name))
