"""Go: main packages that listen, how they are built, and which other folders of the repository they are made of."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Final

from harness.discovery.findings import Program, Sourced
from harness.discovery.ignored import ignored_folders
from harness.discovery.tree import Tree, line_of

_MODULE = re.compile(r"^module\s+\"?([^\s\"]+)", re.MULTILINE)
_MAIN = re.compile(r"^func main\(\)", re.MULTILINE)
_PACKAGE_MAIN = re.compile(r"^package main\b", re.MULTILINE)
_IMPORT = re.compile(r'^\s*(?:import\s+)?(?:[\w.]+\s+)?"([^"\s]+)"\s*(?://.*)?$', re.MULTILINE)
_LISTENS = re.compile(
    r"\b(?:ListenAndServe(?:TLS)?\(|net\.Listen\(|\.Listen\(|grpc\.NewServer\(|http\.Serve\(|gin\.(?:Default|New)\(|"
    r"fiber\.New\(|echo\.New\()"
)
_GRPC = re.compile(r"\bgrpc\.NewServer\(|\.Register\w+(?<!Handler)Server\(")
_HTTP = re.compile(r"\b(?:ListenAndServe(?:TLS)?\(|http\.Serve\(|gin\.(?:Default|New)\(|fiber\.New\(|echo\.New\()")
_HTTP2 = re.compile(r"\bh2c\.NewHandler\(|http\.Server\{[^}]*\bProtocols:")
_SUBCOMMAND = re.compile(r"cobra\.Command\{[^}]*?\bUse:\s*\"([a-z][\w-]*)", re.DOTALL)
_SERVES = re.compile(r"(?i)\bserver\b|ListenAndServe|\.Listen\(|\.Serve\(")
_PLAIN_NAMES: Final = frozenset({"cmd", "main", "app", "server", "src", "service", "api", "http", "."})
_NOT_SERVED: Final = frozenset({"all", "version", "help", "completion", "migrate"})


def go_programs(tree: Tree) -> list[Program]:
    """The main packages of all Go modules of the tree."""
    modules = _modules(tree)
    if not modules:
        return []
    packages = _packages(tree)
    ignored = ignored_folders(tree)
    mains = {folder: path for folder in packages if (path := _main_file(tree, packages[folder])) is not None}
    owners = {folder: _module_of(folder, modules) for folder in mains}
    programs: list[Program] = []
    for folder, path in mains.items():
        module = owners[folder]
        if module is None:
            continue
        alone = sum(1 for other in owners.values() if other == module) == 1
        programs += _program(tree, folder, path, module, modules, packages, ignored, alone)
    return programs


def _program(
    tree: Tree,
    folder: str,
    main: str,
    module: str,
    modules: Mapping[str, str],
    packages: Mapping[str, list[str]],
    ignored: Mapping[str, Sourced[str]],
    alone: bool,
) -> list[Program]:
    cwd = module if alone and module != "." else folder
    closure = _closure(tree, folder, modules, packages, ignored)
    code = tuple(path for place in sorted(closure) for path in packages.get(place, ()))
    texts = {path: tree.text(path) or "" for path in code}
    name = _name(folder, module, modules[module])
    target = "." if cwd == folder else "./" + posixpath.relpath(folder, cwd)
    source = f"{main}:{line_of(texts[main], _at(_MAIN, texts[main]))}"
    written = {p: t for p, t in texts.items() if not p.endswith(".pb.go")}
    grpc = next((f"{p}:{line_of(t, _at(_GRPC, t))}" for p, t in written.items() if _GRPC.search(t)), None)
    http2 = next((f"{p}:{line_of(t, _at(_HTTP2, t))}" for p, t in written.items() if _HTTP2.search(t)), None)
    both = grpc is not None and any(_HTTP.search(text) for text in texts.values())
    links = [folder for folder in ignored.values() if any(_within(place, folder.value) for place in closure)]
    if (vendor := ignored.get(posixpath.normpath(f"{module}/vendor"))) is not None:
        links.append(vendor)
    program = Program(
        name=name,
        cwd=cwd,
        language="go",
        source=source,
        # The checkout lies below the repository: Go would stamp it with the state of the work tree around it.
        build=Sourced(f"go build -buildvcs=false -o bin/{name} {target}", f"package main, {source}"),
        command=Sourced((f"./bin/{name}",), "what `build` makes"),
        link=tuple(links),
        shared=tuple(_shared(tree, cwd, module, closure, modules, {link.value for link in links})),
        grpc=grpc,
        http2=http2,
        listens=any(_LISTENS.search(text) for text in texts.values()),
        code=code,
        todos=("serves HTTP and gRPC; if on two ports, they are two services to the router",) if both else (),
    )
    return _subcommands(program, texts) or [program]


def _subcommands(program: Program, texts: Mapping[str, str]) -> list[Program]:
    """One program a cobra subcommand that serves, where one binary holds several services."""
    found = []
    for path, text in texts.items():
        for match in _SUBCOMMAND.finditer(text):
            name = match[1]
            if name in _NOT_SERVED or name == program.name or not _SERVES.search(text):
                continue
            source = f"{path}:{line_of(text, match.start(1))}"
            command: Sourced[tuple[str, ...]] = Sourced((f"./bin/{program.name}", name), f"the subcommand, {source}")
            found.append(
                Program(
                    name=name,
                    cwd=program.cwd,
                    language="go",
                    source=source,
                    build=program.build,
                    command=command,
                    link=program.link,
                    shared=program.shared,
                    code=program.code,
                    grpc=_own_grpc(name, texts),
                )
            )
    return found if len(found) > 1 else []


def _own_grpc(name: str, texts: Mapping[str, str]) -> str | None:
    for path, text in texts.items():
        if f"/{name}/" in f"/{path}" and (match := _GRPC.search(text)):
            return f"{path}:{line_of(text, match.start())}"
    return None


def _modules(tree: Tree) -> dict[str, str]:
    """Folder of each go.mod -> its module path."""
    found = {}
    for path in tree.matching("go.mod"):
        match = _MODULE.search(tree.text(path) or "")
        if match is None:
            tree.skip(path, "no module line")
            continue
        found[posixpath.dirname(path) or "."] = match[1]
    return found


def _packages(tree: Tree) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for path in tree.below(".", ".go"):
        if not path.endswith("_test.go"):
            found.setdefault(posixpath.dirname(path) or ".", []).append(path)
    return found


def _main_file(tree: Tree, files: list[str]) -> str | None:
    for path in files:
        text = tree.text(path) or ""
        if _PACKAGE_MAIN.search(text) and _MAIN.search(text):
            return path
    return None


def _module_of(folder: str, modules: Mapping[str, str]) -> str | None:
    place = folder
    while True:
        if place in modules:
            return place
        if place == ".":
            return None
        place = posixpath.dirname(place) or "."


def _closure(
    tree: Tree,
    folder: str,
    modules: Mapping[str, str],
    packages: Mapping[str, list[str]],
    ignored: Mapping[str, Sourced[str]],
) -> set[str]:
    """The folders of the packages of this repository that `folder` imports, itself included; ignored ones too."""
    seen = {folder}
    front = [folder]
    by_path = {path: place for place, path in modules.items()}
    while front:
        for file in packages.get(front.pop(), ()):
            for match in _IMPORT.finditer(tree.text(file) or ""):
                place = _folder_of(match[1], by_path)
                if (
                    place is not None
                    and place not in seen
                    and (place in packages or any(_within(place, folder) for folder in ignored))
                ):
                    seen.add(place)
                    front.append(place)
    return seen


def _folder_of(imported: str, by_path: Mapping[str, str]) -> str | None:
    best = max((p for p in by_path if imported == p or imported.startswith(p + "/")), key=len, default=None)
    if best is None:
        return None
    return posixpath.normpath(posixpath.join(by_path[best], imported.removeprefix(best).lstrip("/") or "."))


def _shared(
    tree: Tree, cwd: str, module: str, closure: set[str], modules: Mapping[str, str], linked: set[str]
) -> list[Sourced[str]]:
    if cwd == ".":
        return []
    outside = sorted(place for place in closure if place != cwd and not place.startswith(cwd + "/"))
    # A package at the module's root cannot be shared as a folder: that would be the whole module.
    tracked = [place for place in outside if not any(_within(place, link) for link in linked)]
    folders = [place for place in tracked if place not in modules]
    found = [Sourced(place, "imported") for place in folders if not any(place.startswith(f"{f}/") for f in folders)]
    found += [Sourced(place, "another module, imported") for place in tracked if place in modules and place != "."]
    if module != cwd:
        for name in ("go.mod", "go.sum"):
            path = posixpath.normpath(posixpath.join(module, name))
            if tree.has(path):
                found.append(Sourced(path, "its module"))
    return found


def _name(folder: str, module: str, module_path: str) -> str:
    for part in (*reversed(folder.split("/")), module.rpartition("/")[2], re.sub(r"/v\d+$", "", module_path)):
        name = part.rpartition("/")[2]
        if name not in _PLAIN_NAMES:
            return name
    return "service"


def _within(place: str, folder: str) -> bool:
    return place == folder or place.startswith(folder + "/")


def _at(pattern: re.Pattern[str], text: str) -> int:
    match = pattern.search(text)
    return match.start() if match else 0
