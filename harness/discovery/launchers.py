"""Procfiles and Makefiles: lines with which a team starts its services by hand."""

from __future__ import annotations

import posixpath
import re
import shlex
from typing import Final

from harness.discovery.findings import Component, Sourced
from harness.discovery.tree import Tree, line_of

_PROCESS = re.compile(r"^(?P<name>[A-Za-z0-9_-]+):[ \t]*(?P<line>\S.*)$", re.MULTILINE)
_TARGET = re.compile(
    r"^(?:run|start|serve)[-_](?P<name>[a-z0-9][\w-]*)[ \t]*:(?!=)(?P<needs>[^\n]*)\n(?P<recipe>(?:\t[^\n]*\n?)*)",
    re.MULTILINE,
)
_ASSIGNMENT = re.compile(r"^(?P<name>\w+)[ \t]*[:?]?=[ \t]*(?P<value>[^\n#]*?)[ \t]*$", re.MULTILINE)
_CHANGE_FOLDER = re.compile(r"^cd[ \t]+(?P<folder>[\w./-]+)[ \t]*(?:&&|;)[ \t]*")
_SHELL = re.compile(r"[|;&<>`*?~()\\]|\$(?!\{?PORT\b)")
_UNSERVED: Final = frozenset(
    {"release", "worker", "clock", "beat", "cron", "scheduler", "console", "all", "tests", "test"}
)


def procfile_components(tree: Tree) -> list[Component]:
    """The process types of Procfiles, save those that serve nothing."""
    found = []
    for path in tree.matching("Procfile", "Procfile.dev")[:4]:
        text = tree.text(path) or ""
        for match in _PROCESS.finditer(text):
            source = f"{path}:{line_of(text, match.start())}"
            if match["name"].lower() in _UNSERVED:
                tree.notes.append(f"{source}: `{match['name']}` serves no requests; left out")
                continue
            found.append(_component(match["name"], match["line"], source, posixpath.dirname(path) or "."))
    return found


def makefile_components(tree: Tree) -> list[Component]:
    """Targets `run-X`, `start-X` and `serve-X` of the Makefile at the root."""
    path = next((name for name in ("Makefile", "makefile", "GNUmakefile") if tree.has(name)), None)
    text = tree.text(path) if path else None
    if path is None or text is None:
        return []
    variables = {match["name"]: match["value"] for match in _ASSIGNMENT.finditer(text)}
    found = []
    for match in _TARGET.finditer(text):
        if match["name"] in _UNSERVED:
            continue
        source = f"{path}:{line_of(text, match.start())}"
        lines = [line.strip().lstrip("@-") for line in match["recipe"].splitlines() if line.strip()]
        target = match[0].partition(":")[0].strip()
        recipe = _expanded(lines[0], variables) if len(lines) == 1 else None
        # Several lines, or variables that are made by functions: make itself knows best.
        found.append(_component(match["name"], recipe or f"make {target}", source, "."))
    return found


def _expanded(line: str, variables: dict[str, str]) -> str | None:
    replaced = re.sub(r"\$[({](\w+)[)}]", lambda m: variables.get(m[1], m[0]), line).replace("$$", "$")
    return None if re.search(r"\$[({](?!PORT\b)", replaced) else replaced


def _component(name: str, line: str, source: str, folder: str) -> Component:
    cwd, rest = folder, line.strip()
    if (change := _CHANGE_FOLDER.match(rest)) is not None:
        moved = posixpath.normpath(posixpath.join(folder, change["folder"]))
        if not moved.startswith(("..", "/")):
            cwd, rest = moved, rest[change.end() :]
    env, rest = _leading_env(rest, source)
    return Component(
        name=name,
        source=source,
        shell=True,
        cwd=Sourced(cwd, source),
        command=Sourced(_command(rest), source),
        hint=rest,
        env=env,
    )


def _leading_env(rest: str, source: str) -> tuple[dict[str, Sourced[str]], str]:
    env: dict[str, Sourced[str]] = {}
    while (match := re.match(r"(?:env[ \t]+)?([A-Za-z_]\w*)=(\"[^\"]*\"|'[^']*'|[^\s\"']*)[ \t]+", rest)) is not None:
        env[match[1]] = Sourced(match[2].strip("\"'"), source)
        rest = rest[match.end() :]
    return env, rest


def _command(rest: str) -> tuple[str, ...]:
    if not _SHELL.search(rest):
        try:
            words = shlex.split(rest.removeprefix("exec "))
        except ValueError:
            words = []
        if words:
            return tuple(re.sub(r"\$\{PORT(?::-[^}]*)?\}|\$PORT\b", "${port}", word) for word in words)
    # exec: the process itself is to get the signals, not a shell in front of it.
    simple = not re.search(r"[|;&]", rest)
    return ("sh", "-c", rest if not simple or rest.startswith("exec ") else f"exec {rest}")
