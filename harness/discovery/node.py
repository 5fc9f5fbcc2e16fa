"""JavaScript and TypeScript: packages with a start script, their workspaces and their node_modules."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from collections.abc import Mapping
from typing import Any

from harness.discovery.findings import Program, Sourced
from harness.discovery.tree import Tree, line_of

_GRPC = re.compile(r"new\s+[\w.]*\bServer\(\s*\).{0,4000}?\.addService\(", re.DOTALL)
_SHELL = re.compile(r"[|;&$<>`*?()]|^\w+=")
_CODE = (".js", ".mjs", ".cjs", ".ts")


def manifests(tree: Tree) -> dict[str, dict[str, Any]]:
    """Folder of each usable package.json -> what it says. A malformed one is noted and skipped, once."""
    found: dict[str, dict[str, Any]] = {}
    for path in tree.matching("package.json"):
        text = tree.text(path)
        if text is None:
            continue
        try:
            data = json.loads(text)
        except (ValueError, RecursionError) as error:
            note = f"{path}: not valid JSON ({error}); skipped"
            if note not in tree.notes:
                tree.notes.append(note)
            continue
        if isinstance(data, dict):
            found[posixpath.dirname(path) or "."] = data
    return found


def node_programs(tree: Tree) -> list[Program]:
    """The packages that can be started."""
    packages = manifests(tree)
    by_name = {data["name"]: folder for folder, data in packages.items() if isinstance(data.get("name"), str)}
    return [
        program
        for folder, data in packages.items()
        if (program := _program(tree, folder, data, packages, by_name)) is not None
    ]


def scripts(data: Mapping[str, Any]) -> dict[str, str]:
    """The scripts of a package.json that are texts."""
    found = data.get("scripts")
    return {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}


def script_source(tree: Tree, folder: str, name: str) -> str:
    """Where script `name` stands in the package.json of `folder`."""
    path = "package.json" if folder == "." else f"{folder}/package.json"
    text = tree.text(path) or ""
    at = re.search(rf'"scripts"[\s\S]*?("{re.escape(name)}"\s*:)', text)
    return f"{path}:{line_of(text, at.start(1)) if at else 1}"


def dependencies(data: Mapping[str, Any]) -> dict[str, str]:
    """Its dependencies, development ones included."""
    found: dict[str, str] = {}
    for kind in ("dependencies", "devDependencies"):
        part = data.get(kind)
        if isinstance(part, dict):
            found.update({k: str(v) for k, v in part.items()})
    return found


def _program(
    tree: Tree, folder: str, data: Mapping[str, Any], packages: Mapping[str, Any], by_name: Mapping[str, str]
) -> Program | None:
    known = scripts(data)
    script = next((name for name in ("start", "serve", "dev") if name in known), None)
    if script is None or (data.get("workspaces") and script != "start"):
        return None
    code = tuple(path for path in tree.below(folder, *_CODE) if _owner(path, packages) == folder)
    needs = dependencies(data)
    grpc = next(
        (
            f"{path}:{line_of(text, match.start())}"
            for path in code
            if "@grpc/grpc-js" in needs and (match := _GRPC.search(text := tree.text(path) or ""))
        ),
        None,
    )
    name = str(data.get("name") or "").rpartition("/")[2] or posixpath.basename(folder)
    shared = _shared(folder, needs, by_name)
    build = Sourced("npm run build", script_source(tree, folder, "build")) if "build" in known else None
    command = Sourced(_command(known[script], script), script_source(tree, folder, script))
    return Program(
        name=posixpath.basename(folder) if folder != "." else name,
        cwd=folder,
        language="node",
        source=command.source,
        build=build,
        command=command,
        link=tuple(_links(tree, folder, needs, packages)),
        shared=tuple(shared),
        grpc=grpc,
        code=(*code, *(path for home in shared for path in tree.below(home.value, *_CODE))),
    )


def _command(script: str, name: str) -> tuple[str, ...]:
    # npm stays as a parent that costs a third of a second and hides signals: go round it where the script is plain.
    if not _SHELL.search(script):
        try:
            words = shlex.split(script)
        except ValueError:
            words = []
        if words and words[0] == "node":
            return tuple(words)
    return ("npm", "start") if name == "start" else ("npm", "run", name)


def _links(tree: Tree, folder: str, needs: Mapping[str, str], packages: Mapping[str, Any]) -> list[Sourced[str]]:
    found = []
    place = folder
    while needs:
        path = posixpath.normpath(posixpath.join(place, "node_modules"))
        if tree.has_folder(path):
            found.append(Sourced(path, "installed packages, not in git"))
        if place == ".":
            break
        place = posixpath.dirname(place) or "."
    if needs and not found:
        root = "." if packages.get(".", {}).get("workspaces") else folder
        path = posixpath.normpath(posixpath.join(root, "node_modules"))
        found.append(Sourced(path, "not there yet: run your package manager's install first"))
    return found


def _shared(folder: str, needs: Mapping[str, str], by_name: Mapping[str, str]) -> list[Sourced[str]]:
    inside = {by_name[name] for name in needs if name in by_name and by_name[name] not in (folder, ".")}
    return [Sourced(place, "workspace dependency") for place in sorted(inside)]


def _owner(path: str, packages: Mapping[str, Any]) -> str:
    place = posixpath.dirname(path) or "."
    while place != "." and place not in packages:
        place = posixpath.dirname(place) or "."
    return place
