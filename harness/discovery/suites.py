"""Test suites that can judge a running system, linters that can fail a change early, and the paths of both."""

from __future__ import annotations

import posixpath
import re
from collections import Counter
from dataclasses import replace
from typing import Final

from harness.discovery.findings import Sourced, SuiteFinding
from harness.discovery.node import dependencies, manifests, script_source, scripts
from harness.discovery.tree import Tree, line_of

_OUTSIDE = re.compile(r"integration|e2e|end-to-end|acceptance|system|smoke|contract|api-?tests?")
_TEST_FOLDERS: Final = frozenset({"test", "tests", "e2e", "integration", "acceptance", "checks", "__tests__", "spec"})


def judging_suites(tree: Tree) -> list[SuiteFinding]:
    """Suites that look as if they ask a running system."""
    found = [*_pytest(tree), *_node_tests(tree), *_go_tests(tree), *_make_tests(tree)]
    told = any("SPURLINE_URL" in (tree.text(path) or "") for path in tree.files if _OUTSIDE.search(path))
    unique = {suite.name: replace(suite, told=told) for suite in reversed(found)}
    return list(unique.values())[::-1]


def static_suites(tree: Tree) -> list[SuiteFinding]:
    """Linters, type checkers and unit tests that need nothing running."""
    return [*_python_static(tree), *_node_static(tree), *_go_static(tree), *_rust_static(tree)]


def protected_paths(tree: Tree) -> list[Sourced[str]]:
    """Where tests and checks live: what an agent may not change on the way to `verified`."""
    found: dict[str, str] = {}
    for path in tree.files:
        folders = path.split("/")[:-1]
        for depth, folder in enumerate(folders):
            if folder in _TEST_FOLDERS:
                found.setdefault("/".join(folders[: depth + 1]) + "/**", f"{path}, for one")
                break
    if any(path.endswith("_test.go") for path in tree.files):
        found.setdefault("**/*_test.go", "Go's tests")
    if any(re.search(r"\.(test|spec)\.[jt]sx?$", path) for path in tree.files):
        found.setdefault("**/*.test.*", "tests beside the code")
        found.setdefault("**/*.spec.*", "tests beside the code")
    if found:
        found.setdefault("checks/**", "where requests with what to expect may lie")
    return [Sourced(path, source) for path, source in sorted(_gathered(found).items())]


def _gathered(found: dict[str, str]) -> dict[str, str]:
    """Folders of one name in many places as one pattern."""
    many = Counter(path.removesuffix("/**").rpartition("/")[2] for path in found)
    gathered: dict[str, str] = {}
    for path, source in found.items():
        name = path.removesuffix("/**").rpartition("/")[2]
        gathered.setdefault(f"**/{name}/**" if path.endswith("/**") and many[name] > 2 else path, source)
    return gathered


def _pytest(tree: Tree) -> list[SuiteFinding]:
    found: dict[str, SuiteFinding] = {}
    for path in tree.matching("test_*.py", "*_test.py"):
        folder = posixpath.dirname(path)
        parts = folder.split("/")
        depth = next((i for i, part in enumerate(parts) if _OUTSIDE.search(part)), None)
        if depth is not None:
            suite = "/".join(parts[: depth + 1])
            name = posixpath.basename(suite)
            found.setdefault(suite, SuiteFinding(name, f"pytest -q {suite}", path))
    return list(found.values())


def _node_tests(tree: Tree) -> list[SuiteFinding]:
    found = []
    for folder, data in manifests(tree).items():
        for name in scripts(data):
            if _OUTSIDE.search(name) and not re.search(r"watch|build|debug|docker", name):
                title = re.sub(r"[^\w-]+", "-", name)
                found.append(SuiteFinding(title, _npm(folder, name), script_source(tree, folder, name)))
    return found


def _go_tests(tree: Tree) -> list[SuiteFinding]:
    found: dict[str, SuiteFinding] = {}
    for path in tree.below(".", "_test.go"):
        folder = posixpath.dirname(path) or "."
        text = tree.text(path) or ""
        tag = re.search(r"^//go:build (?:.*\b)?(integration|e2e|acceptance)\b", text, re.MULTILINE)
        if tag is not None:
            found.setdefault(
                tag[1],
                SuiteFinding(
                    tag[1],
                    f"go test -tags {tag[1]} ./{folder}/...".replace("/./", "/"),
                    f"{path}:{line_of(text, tag.start())}",
                ),
            )
        elif any(_OUTSIDE.search(part) for part in folder.split("/")):
            found.setdefault(folder, SuiteFinding(posixpath.basename(folder), f"go test -count=1 ./{folder}/...", path))
    return list(found.values())


def _make_tests(tree: Tree) -> list[SuiteFinding]:
    text = tree.text("Makefile") or ""
    found = []
    for match in re.finditer(r"^([\w-]*(?:test|check)[\w-]*)[ \t]*:(?!=)", text, re.MULTILINE):
        if _OUTSIDE.search(match[1]):
            source = f"Makefile:{line_of(text, match.start())}; only if it starts nothing by itself"
            found.append(SuiteFinding(match[1], f"make {match[1]}", source, certain=False))
    return found


def _python_static(tree: Tree) -> list[SuiteFinding]:
    found = []
    text = tree.text("pyproject.toml") or ""
    for tool, run in (
        ("ruff", "ruff check ."),
        ("mypy", "mypy ."),
        ("pyright", "pyright"),
        ("black", "black --check ."),
    ):
        at = re.search(rf"^\[tool\.{tool}\b", text, re.MULTILINE)
        if at is not None:
            found.append(SuiteFinding(tool, run, f"pyproject.toml:{line_of(text, at.start())}"))
    for path, tool, run in (
        ("ruff.toml", "ruff", "ruff check ."),
        ("mypy.ini", "mypy", "mypy ."),
        (".flake8", "flake8", "flake8"),
    ):
        if tree.has(path):
            found.append(SuiteFinding(tool, run, path))
    return found


def _node_static(tree: Tree) -> list[SuiteFinding]:
    found = []
    for folder, data in manifests(tree).items():
        known = scripts(data)
        found += [
            SuiteFinding(name, _npm(folder, name), script_source(tree, folder, name))
            for name in ("lint", "typecheck", "type-check", "check-types")
            if name in known and not known[name].startswith("echo")
        ]
        config = posixpath.normpath(f"{folder}/tsconfig.json")
        if tree.has(config) and "typescript" in dependencies(data) and not {"typecheck", "type-check"} & set(known):
            run = "npx --no-install tsc --noEmit -p " + folder
            found.append(SuiteFinding("tsc", run, config))
    return found


def _go_static(tree: Tree) -> list[SuiteFinding]:
    found = []
    for path in tree.matching("go.mod"):
        folder = posixpath.dirname(path) or "."
        run = "go vet ./..." if folder == "." else f"go -C {folder} vet ./..."
        found.append(SuiteFinding("go vet", run, path))
    configs = (".golangci.yml", ".golangci.yaml", ".golangci.toml")
    return found + [SuiteFinding("golangci-lint", "golangci-lint run", path) for path in configs if tree.has(path)]


def _rust_static(tree: Tree) -> list[SuiteFinding]:
    return [SuiteFinding("cargo check", "cargo check --quiet --locked", "Cargo.toml")] if tree.has("Cargo.toml") else []


def _npm(folder: str, name: str) -> str:
    return f"npm run {name}" if folder == "." else f"npm --prefix {folder} run {name}"
