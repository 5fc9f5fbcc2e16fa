"""Knobs: the environment variables and flags by which a program's own code takes its port and its neighbours.

Read by pattern, not by parsing: the forms of Go, Python, JavaScript, Rust, Java and Spring that are met in practice.
What is missed is left for the reader of `spurline.yaml`; what is found carries file and line.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final

from harness.discovery.findings import Knob
from harness.discovery.tree import Tree, line_of

MAX_KNOBS: Final = 200

# os.Getenv("X"), getenv("X", "default"), os.environ["X"], env::var("X"), mustMapEnv(&addr, "X")
_ENV_CALL = re.compile(
    r"""(?:[Ee]nv|ENV)[\w.:]*!?\s*[(\[]\s*(?:&?[\w.]+\s*,\s*)?["'`](?P<name>[A-Z][A-Z0-9_]+)["'`](?P<rest>[^\n]*)"""
)
_NODE_ENV = re.compile(r"""process\.env\.(?P<name>[A-Z][A-Z0-9_]+)(?P<rest>[^\n]*)""")
_SPRING = re.compile(r"""\$\{(?P<name>[A-Z][A-Z0-9_]+)(?P<rest>:[^}\n]*)?\}""")
# flag.String("x", "default", …), flags.IntVarP(&port, "x", "p", 8081, …)
_GO_FLAG = re.compile(
    r"""\.(?:String|Int|Uint|Int64|Uint64|Uint16)(?:Var)?P?\(\s*(?:&[\w.]+\s*,\s*)?"(?P<name>[a-z][\w.-]*)"\s*,"""
    r"""(?:\s*"\w?"\s*,(?=\s*["\w]))?(?P<rest>[^\n]*)"""
)
_PYTHON_FLAG = re.compile(
    r"""(?:add_argument|\.option)\(\s*(?:["']-\w["']\s*,\s*)?["']--(?P<name>[\w-]+)["'](?P<rest>[^\n]*)"""
)
_LITERAL = re.compile(r"""["'`](?P<text>[^"'`\n]*)["'`]|(?<![\w.])(?P<number>\d{2,5})(?![\w.])""")
_ADDRESS = re.compile(r"(?:[a-z][a-z0-9+.]*://)?[\w.\[\]-]*(?::\d{1,5})?(?:/[\w./-]*)?")

_CODE = (".go", ".py", ".js", ".mjs", ".cjs", ".ts", ".rs", ".java", ".kt", ".rb")
_SPRING_FILES = (".properties", ".yml", ".yaml")


def knobs(tree: Tree, files: Iterable[str]) -> tuple[Knob, ...]:
    """The knobs in `files`, each name once, as first seen; tests are left out."""
    found: dict[tuple[str, str], Knob] = {}
    for path in files:
        text = tree.text(path)
        if text is None or _is_test(path):
            continue
        for kind, pattern in _patterns(path):
            for match in pattern.finditer(text):
                if len(found) >= MAX_KNOBS:
                    return tuple(found.values())
                knob = _knob(kind, match, f"{path}:{line_of(text, match.start('name'))}")
                known = found.setdefault((kind, knob.name), knob)
                if not known.default and knob.default:
                    found[kind, knob.name] = knob
    return tuple(found.values())


def _patterns(path: str) -> list[tuple[str, re.Pattern[str]]]:
    if path.endswith(_SPRING_FILES):
        return [("env", _SPRING)]
    if not path.endswith(_CODE):
        return []
    patterns = [("env", _ENV_CALL)]
    if path.endswith((".js", ".mjs", ".cjs", ".ts")):
        patterns.append(("env", _NODE_ENV))
    if path.endswith(".go"):
        patterns.append(("flag", _GO_FLAG))
    if path.endswith(".py"):
        patterns.append(("flag", _PYTHON_FLAG))
    return patterns


def _knob(kind: str, match: re.Match[str], source: str) -> Knob:
    name = match["name"] if kind == "env" else f"--{match['name']}"
    return Knob(kind, name, _default(match["rest"] or ""), source)


def _default(rest: str) -> str:
    """The first literal after the name, where it looks like an address, a host or a port."""
    if rest.startswith(":"):
        return rest[1:]
    literal = _LITERAL.search(rest)
    if literal is None:
        return ""
    text = literal["text"] if literal["text"] is not None else literal["number"]
    return text if _ADDRESS.fullmatch(text) else ""


def _is_test(path: str) -> bool:
    name = path.rpartition("/")[2]
    folders = path.split("/")[:-1]
    marks = name.startswith("test_") or re.search(r"(_test\.|\.test\.|\.spec\.)", name) is not None
    return marks or any(folder in ("test", "tests", "__tests__") for folder in folders)
