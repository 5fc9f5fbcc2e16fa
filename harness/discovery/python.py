"""Python: modules that serve, how they are started, and what of the repository they import."""

from __future__ import annotations

import ast
import posixpath
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from harness.discovery.findings import Program, Sourced
from harness.discovery.tree import Tree, line_of

_ENTRIES: Final = ("main.py", "app.py", "server.py", "service.py", "asgi.py", "wsgi.py", "manage.py", "__main__.py")
_SERVES = re.compile(
    r"uvicorn\.run\(|\.run\(|serve_forever\(|web\.run_app\(|grpc\.(?:aio\.)?server\(|hypercorn|waitress|serve\("
)
_APPLICATION = re.compile(
    r"^(?P<name>\w+)\s*=\s*(?:fastapi\.)?(?P<kind>FastAPI|Starlette|Flask|Quart|Litestar)\(", re.MULTILINE
)
_RUNS_ITSELF = re.compile(r"^if __name__ == [\"']__main__[\"']", re.MULTILINE)
_GRPC = re.compile(r"\bgrpc\.(?:aio\.)?server\(|(?<!def )\badd_\w+Servicer_to_server\(")
_PLAIN_NAMES: Final = frozenset({"src", "app", "server", "service", "api", "."})
_HOMES: Final = ("", "libs/", "lib/", "packages/", "src/")
_LOCAL_PATH = re.compile(r"""(?:-e\s+|path\s*=\s*["']|file:)(\.\./[\w./-]+)""")


def python_programs(tree: Tree) -> list[Program]:
    """One program a folder with a module that serves."""
    found: dict[str, Program] = {}
    for name in _ENTRIES:
        for path in tree.matching(name):
            folder = _service_folder(tree, posixpath.dirname(path) or ".")
            if folder not in found and (program := _program(tree, folder, path)) is not None:
                found[folder] = program
    return [found[folder] for folder in sorted(found)]


def _program(tree: Tree, folder: str, path: str) -> Program | None:
    text = tree.text(path)
    if text is None or "/tests/" in f"/{path}" or "/migrations/" in f"/{path}":
        return None
    launched = _launch(path, text, folder)
    if launched is None:
        return None
    arguments, line = launched
    code = tuple(tree.below(folder, ".py"))
    venv, links = _venv(tree, folder)
    todos = () if venv or not _has_lock(tree, folder) else ("no .venv is there: make one, or name it under `link`",)
    written = [p for p in code if not p.endswith("_pb2_grpc.py")]
    grpc = next((f"{p}:{line_of(t, m.start())}" for p in written if (m := _GRPC.search(t := tree.text(p) or ""))), None)
    shared = _shared(tree, folder, code)
    base = posixpath.basename(folder)
    return Program(
        name=base if base not in _PLAIN_NAMES else posixpath.basename(posixpath.dirname(folder)) or tree.root.name,
        cwd=folder,
        language="python",
        source=f"{path}:{line}",
        command=Sourced((venv or "python", *arguments), f"{path}:{line}"),
        link=links,
        shared=tuple(Sourced(one.home, one.source) for one in shared),
        grpc=grpc,
        code=(*code, *(path for one in shared for path in tree.below(one.home, ".py"))),
        env=_python_path(folder, shared),
        todos=todos,
    )


def _launch(path: str, text: str, folder: str) -> tuple[tuple[str, ...], int] | None:
    """The arguments for the interpreter, from the service's folder, and the line that says so."""
    script = posixpath.relpath(path, folder)
    module = script.removesuffix(".py").replace("/", ".")
    if posixpath.basename(path) == "manage.py" and "django" in text:
        return (script, "runserver", "--noreload", "127.0.0.1:${port}"), 1
    served = _SERVES.search(text)
    itself = _RUNS_ITSELF.search(text)
    if script == "__main__.py" and served:
        return (script,), line_of(text, served.start())
    if served and itself:
        return (script,), line_of(text, served.start())
    if (application := _APPLICATION.search(text)) is not None:
        where = f"{module}:{application['name']}"
        line = line_of(text, application.start())
        if application["kind"] in ("Flask", "Quart"):
            return ("-m", application["kind"].lower(), "--app", where, "run", "--port", "${port}"), line
        return ("-m", "uvicorn", where, "--host", "127.0.0.1", "--port", "${port}"), line
    return None


def _service_folder(tree: Tree, folder: str) -> str:
    """The nearest folder upwards with a manifest of its own, where that is not the whole repository."""
    place = folder
    while place != ".":
        if any(tree.has(f"{place}/{name}") for name in ("pyproject.toml", "requirements.txt", "setup.py")):
            return place
        place = posixpath.dirname(place) or "."
    return folder


def _venv(tree: Tree, folder: str) -> tuple[str | None, tuple[Sourced[str], ...]]:
    for place in (folder, "."):
        path = posixpath.normpath(posixpath.join(place, ".venv"))
        if tree.has_folder(path):
            python = posixpath.relpath(f"{path}/bin/python", folder)
            return python, (Sourced(path, "the virtual environment, not in git"),)
    return None, ()


def _has_lock(tree: Tree, folder: str) -> bool:
    places = {folder, "."}
    names = ("uv.lock", "poetry.lock", "requirements.txt", "pdm.lock")
    return any(tree.has(posixpath.normpath(f"{place}/{name}")) for place in places for name in names)


@dataclass(frozen=True, slots=True)
class _Shared:
    """A folder of the repository that a service's code imports."""

    home: str
    root: str | None
    """The folder from which the import finds it; None where it is installed as a package of its own."""
    source: str


def _shared(tree: Tree, folder: str, code: tuple[str, ...]) -> list[_Shared]:
    if folder == ".":
        return []
    found: dict[str, _Shared] = {}
    tops = {name: (place, f"{place}{name}") for place in _HOMES for name in _tops(tree, place)}
    for path in code:
        for dotted, line in _imports(tree.text(path) or ""):
            root, home = _home(tree, dotted.split("."), tops)
            if home and home != folder and not home.startswith(folder + "/") and not folder.startswith(home + "/"):
                installed = any(tree.has(f"{home}/{name}") for name in ("pyproject.toml", "setup.py"))
                found.setdefault(home, _Shared(home, None if installed else root, f"imported, {path}:{line}"))
    for name in ("pyproject.toml", "requirements.txt"):
        path = posixpath.normpath(f"{folder}/{name}")
        text = tree.text(path) or ""
        for match in _LOCAL_PATH.finditer(text):
            home = posixpath.normpath(posixpath.join(folder, match[1]))
            if not home.startswith("..") and tree.has_folder(home):
                found.setdefault(home, _Shared(home, None, f"{path}:{line_of(text, match.start())}"))
    return [found[home] for home in sorted(found)]


def _python_path(folder: str, shared: list[_Shared]) -> dict[str, Sourced[str]]:
    """PYTHONPATH for what is imported from the repository without being installed."""
    loose = [one for one in shared if one.root is not None]
    if not loose:
        return {}
    places = sorted({posixpath.relpath(one.root or ".", folder) for one in loose})
    return {"PYTHONPATH": Sourced(":".join(places), f"{loose[0].home} is {loose[0].source}")}


def _home(tree: Tree, parts: list[str], tops: Mapping[str, tuple[str, str]]) -> tuple[str, str | None]:
    """From where the dotted import is found, and the deepest folder of this repository that it leads to."""
    root, home = tops.get(parts[0], ("", None))
    for part in parts[1:] if home else ():
        if not tree.below(f"{home}/{part}", ".py"):
            break
        home = f"{home}/{part}"
    return root, home


def _tops(tree: Tree, place: str) -> set[str]:
    """Folders directly below `place` that hold Python somewhere."""
    names = (path.removeprefix(place).split("/", 1) for path in tree.below(place or ".", ".py"))
    return {parts[0] for parts in names if len(parts) == 2}


def _imports(text: str) -> list[tuple[str, int]]:
    """Absolute imports, dotted, with their lines; none of a file that this Python cannot parse."""
    try:
        with warnings.catch_warnings():
            # Somebody else's invalid escape sequences are no business of ours.
            warnings.simplefilter("ignore")
            module = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    found = []
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found
