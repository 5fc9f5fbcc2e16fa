"""`discover`: what a repository says about the system in it. Reads below its root only, runs nothing, raises nothing
for what strangers wrote."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from harness.discovery.addresses import OWN_HOST, Directory
from harness.discovery.assembly import Part, assemble
from harness.discovery.compose import compose_components
from harness.discovery.findings import Component, ExternalFinding, Findings, Program, ServiceFinding, Sourced
from harness.discovery.golang import go_programs
from harness.discovery.launchers import makefile_components, procfile_components
from harness.discovery.manifests import cargo_programs, maven_programs
from harness.discovery.names import service_name, stem
from harness.discovery.node import node_programs
from harness.discovery.python import python_programs
from harness.discovery.suites import judging_suites, protected_paths, static_suites
from harness.discovery.tree import Tree
from sandbox.service import PLACEHOLDER

_ENTRIES: Final = ("gateway", "frontend", "edge", "ingress", "bff", "proxy", "web", "api", "app", "site", "ui")
_MAX_SERVICES: Final = 100


def discover(root: Path) -> Findings:
    """What the repository at `root` says about its services, its checks and its linters."""
    tree = Tree(root)
    programs = _programs(tree)
    composed = compose_components(tree)
    built = _serving(tree, [component for component in composed if component.image is None])
    launched = built or procfile_components(tree)
    parts = _parts(tree, launched, programs)
    directory = _directory(parts, composed)
    names = [part.name for part in parts]
    services = tuple(assemble(tree, part, names, directory) for part in parts)
    return Findings(
        project=re.sub(r"[^A-Za-z0-9_-]+", "-", root.resolve().name).strip("-_")[:80] or "project",
        services=services,
        entry=_entry(services, parts),
        externals=tuple(_external(component) for component in composed if component.image is not None),
        checks=tuple(judging_suites(tree)),
        static=tuple(static_suites(tree)),
        protected=tuple(protected_paths(tree)),
        notes=tuple(dict.fromkeys(tree.notes)),
    )


def _programs(tree: Tree) -> list[Program]:
    found = [
        *go_programs(tree),
        *node_programs(tree),
        *python_programs(tree),
        *cargo_programs(tree),
        *maven_programs(tree),
    ]
    served = []
    for program in found:
        if program.listens:
            served.append(program)
        else:
            tree.notes.append(f"{program.source}: `{program.name}` was not seen to listen; left out")
    return served


def _serving(tree: Tree, built: Sequence[Component]) -> list[Component]:
    """The components that open a port or that another one names: a load generator does neither."""
    if not any(component.ports for component in built):
        return list(built)
    kept = []
    for component in built:
        hosts = "|".join(re.escape(host) for host in (component.name, *component.aliases))
        pattern = re.compile(rf"(?<![\w.-])(?:{hosts})(?![\w.-])")
        others = [other for other in built if other is not component]
        texts = (text for other in others for text in (*_said(other), *other.depends))
        if component.ports or component.ready or any(pattern.search(text) for text in texts):
            kept.append(component)
        else:
            tree.notes.append(f"{component.source}: `{component.name}` opens no port and nobody names it; left out")
    return kept


def _said(component: Component) -> list[str]:
    """What a component is told: its environment and its command."""
    return [*(value.value for value in component.env.values()), *(component.command.value if component.command else ())]


def _parts(tree: Tree, launched: Sequence[Component], programs: Sequence[Program]) -> list[Part]:
    """Components with the programs that they start; all programs where no file names the components."""
    parts: list[tuple[str, Component | None, Program | None]] = []
    if launched:
        parts += [(component.name, component, _program_of(component, programs)) for component in launched]
        used = {program.source for _, _, program in parts if program}
        for program in programs:
            if program.source not in used:
                tree.notes.append(f"{program.source}: `{program.name}` is not named in {launched[0].source}; left out")
    else:
        by_make = makefile_components(tree)
        known = {stem(component.name): component for component in by_make}
        parts += [(program.name, known.get(stem(program.name)), program) for program in programs]
        if not programs:
            parts += [(component.name, component, None) for component in by_make]
    if len(parts) > _MAX_SERVICES:
        tree.notes.append(f"{len(parts)} services were found; the first {_MAX_SERVICES} are proposed")
    return _named(parts[:_MAX_SERVICES])


def _named(parts: Sequence[tuple[str, Component | None, Program | None]]) -> list[Part]:
    taken: set[str] = set()
    found = []
    for name, component, program in parts:
        unique = base = service_name(name)
        count = 1
        while unique in taken:
            count += 1
            unique = f"{base[:59]}-{count}"
        taken.add(unique)
        found.append(Part(unique, component, program))
    return found


def _program_of(component: Component, programs: Sequence[Program]) -> Program | None:
    """The program that a component starts: by its name, by what its command or image names, or alone in its folder."""
    where = component.cwd.value if component.cwd else "."
    inside = [p for p in programs if where == "." or p.cwd == where or p.cwd.startswith(where + "/")]
    same = [p for p in inside if stem(p.name) == stem(component.name)]
    if same:
        return same[0]
    told = component.hint + " " + " ".join(component.command.value if component.command else ())
    mentioned = [p for p in inside if p.cwd != "." and re.search(rf"(?<![\w-]){re.escape(p.cwd)}(?![\w-])", told)]
    if mentioned:
        return max(mentioned, key=lambda p: len(p.cwd))
    exact = [p for p in inside if p.cwd == where]
    if len(exact) == 1:
        return exact[0]
    return inside[0] if len(inside) == 1 and where != "." else None


def _directory(parts: Sequence[Part], composed: Sequence[Component]) -> Directory:
    services = {part.name: part.name for part in parts}
    for part in parts:
        if part.component is not None:
            services.update(dict.fromkeys((part.component.name, *part.component.aliases), part.name))
    externals = {
        host: component.published
        for component in composed
        if component.image is not None
        for host in (component.name, *component.aliases)
        if host not in services
    }
    return Directory(services, externals)


def _external(component: Component) -> ExternalFinding:
    host = next(iter(component.published.values()), None)
    own = next(iter(component.published), 0)
    scheme = "http" if own in (80, 443, 3000, 8000, 8080, 9000, 9200, 16686) else "tcp"
    url = f"{scheme}://{OWN_HOST}:{host}" if host else None
    return ExternalFinding(service_name(component.name), component.source, component.image or "", url)


def _entry(services: Sequence[ServiceFinding], parts: Sequence[Part]) -> Sourced[str] | None:
    """The service that outsiders ask: named like one, called by nobody, published."""
    if not services:
        return None
    called = {
        match[2]
        for service in services
        for text in (*service.command.value, *(value.value for value in service.env.values()))
        for match in PLACEHOLDER.finditer(text)
    }
    published = {part.name for part in parts if part.component is not None and part.component.published}

    def score(service: ServiceFinding) -> tuple[bool, bool, bool, int]:
        words = re.split(r"[^a-z]+", service.name)
        rank = min((_ENTRIES.index(word) for word in words if word in _ENTRIES), default=len(_ENTRIES))
        return (rank < len(_ENTRIES), service.name not in called, service.name in published, -rank)

    best = max(services, key=lambda service: (score(service), -services.index(service)))
    named, uncalled, out, _ = score(best)
    reasons = [
        *(["by its name"] if named else []),
        *(["no other service calls it"] if uncalled and len(services) > 1 else []),
        *(["it is published"] if out else []),
    ]
    return Sourced(best.name, "a guess: " + (", ".join(reasons) or "the first one found"))
