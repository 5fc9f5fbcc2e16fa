"""Compose files: the components of the system, as a team already wrote them down.

Only what is needed is read, at known places: aliases are never expanded, so a file made to blow up does not.
"""

from __future__ import annotations

import posixpath
import re
import shlex
from collections.abc import Iterator, Mapping
from io import StringIO
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.scalarbool import ScalarBoolean

from harness.discovery.dockerfile import Image, read_image
from harness.discovery.findings import Component, Sourced
from harness.discovery.tree import Tree
from harness.discovery.variables import Variables

_USUAL: Final = ("compose.yaml", "compose.yml", "docker-compose.yaml", "docker-compose.yml")
_PROBED_PATH = re.compile(r"https?://[^/\s\"']+(/[^\s\"'|;]*)?")


def compose_components(tree: Tree) -> list[Component]:
    """The components of the compose file nearest to the root; others are noted."""
    path = _chosen(tree)
    if path is None:
        return []
    text = tree.text(path)
    if text is None:
        return []
    try:
        data = _loaded(text)
    except (YAMLError, ValueError, RecursionError) as error:
        mark = error.problem_mark or error.context_mark if isinstance(error, MarkedYAMLError) else None
        tree.skip(path, f"not valid YAML (line {mark.line + 1})" if mark else "not valid YAML")
        return []
    services = data.get("services") if isinstance(data, CommentedMap) else None
    if not isinstance(services, CommentedMap):
        tree.skip(path, "no mapping `services`")
        return []
    found = []
    variables = Variables(tree, posixpath.dirname(path))
    for name, spec in services.items():
        if isinstance(spec, CommentedMap):
            found.append(_Reader(tree, path, _scalar(name), spec, _line(services, name), variables).component())
        else:
            tree.skip(f"{path}: service {_scalar(name)}", "not a mapping")
    return found


def _loaded(text: str) -> Any:
    # Wider than our own files: compose files use merge keys, tags of their own and doubled keys.
    yaml = YAML(typ="rt")
    yaml.allow_duplicate_keys = True
    return yaml.load(StringIO(text))


def _chosen(tree: Tree) -> str | None:
    usual = tree.matching(*_USUAL)
    others = [
        p for p in tree.matching("docker-compose*.y*ml", "compose.*.y*ml") if p not in usual and "override" not in p
    ]
    found = sorted(usual, key=lambda p: (p.count("/"), p)) or sorted(others, key=lambda p: (p.count("/"), p))
    if len(found) > 1:
        tree.notes.append(f"{found[0]} was read; there are also {', '.join(found[1:6])}")
    return found[0] if found else None


class _Reader:
    """Reads one service of a compose file."""

    def __init__(self, tree: Tree, path: str, name: str, spec: CommentedMap, line: int, variables: Variables) -> None:
        self.tree, self.path, self.name, self.spec, self.line = tree, path, name, spec, line
        self.filled = variables.filled
        self.lookup = variables.lookup
        self.todos: list[str] = []
        self.unset: list[Sourced[str]] = []

    def component(self) -> Component:
        spec = self.spec
        base = posixpath.dirname(self.path)
        context = self._context(base)
        image = self._image(context, base) if context else None
        ports = self._ports()
        listening = [
            *(Sourced(own, source) for own, _, source in ports),
            *self._exposed(),
            *(image.ports if image else []),
        ]
        env = {**(image.env if image else {}), **self._env()}
        return Component(
            name=self.name,
            source=f"{self.path}:{self.line}",
            cwd=context,
            image=None if context else _scalar(spec.get("image")) or "an image",
            command=self._command(image),
            hint=image.text if image else "",
            env={name: value for name, value in env.items() if name not in ("PATH", "PYTHONUNBUFFERED", "NODE_ENV")},
            unset=tuple(self.unset),
            ports=tuple({port.value: port for port in reversed(listening)}.values())[::-1],
            published={own: host for own, host, _ in ports if host},
            depends=tuple(self._depends()),
            aliases=tuple(str(spec[key]) for key in ("container_name", "hostname") if isinstance(spec.get(key), str)),
            ready=self._ready(),
            todos=tuple(self.todos),
        )

    def _at(self, key: str) -> str:
        return f"{self.path}:{_line(self.spec, key) or self.line}"

    def _context(self, base: str) -> Sourced[str] | None:
        build = self.spec.get("build")
        context = build.get("context", ".") if isinstance(build, CommentedMap) else build
        if not isinstance(context, str) or "://" in context:
            return None
        folder = posixpath.normpath(posixpath.join(base, context))
        if folder.startswith(("..", "/", "~")):
            self.todos.append(f"its build context {context!r} lies outside of the repository ({self._at('build')})")
            folder = "."
        return Sourced(folder, f"build context, {self._at('build')}")

    def _image(self, context: Sourced[str], base: str) -> Image | None:
        build = self.spec.get("build")
        name = build.get("dockerfile") if isinstance(build, CommentedMap) else None
        path = posixpath.normpath(posixpath.join(context.value, str(name or "Dockerfile")))
        return read_image(self.tree, path)

    def _command(self, image: Image | None) -> Sourced[tuple[str, ...]] | None:
        for key in ("command", "entrypoint"):
            words = _words(self.spec.get(key))
            if words:
                return Sourced(tuple(self.filled(word) or word for word in words), self._at(key))
        return image.start if image else None

    def _env(self) -> dict[str, Sourced[str]]:
        found: dict[str, Sourced[str]] = {}
        environment = self.spec.get("environment")
        for name, value, line in _pairs(environment):
            text = self.lookup(name) if value is None else self.filled(_scalar(value))
            source = f"{self.path}:{line or self.line}"
            if text is None:
                self.unset.append(Sourced(name, source))
            else:
                found[name] = Sourced(text, source)
        for file in _texts(self.spec.get("env_file")):
            self.todos.append(
                f"env: {file} is read too ({self._at('env_file')}); name here what the service needs of it"
            )
        return found

    def _ports(self) -> list[tuple[int, int | None, str]]:
        """(its own port, the host's port or None, where it says so)."""
        found = []
        ports = self.spec.get("ports")
        for index, entry in enumerate(ports) if isinstance(ports, CommentedSeq) else ():
            source = f"{self.path}:{_item_line(ports, index) or self.line}"
            if isinstance(entry, CommentedMap):
                own, host = _scalar(entry.get("target")), _scalar(entry.get("published"))
            else:
                text = (self.filled(_scalar(entry)) or "").partition("/")[0]
                *before, own = text.split(":")
                host = before[-1] if before else ""
            if (port := _port(own)) is not None:
                found.append((port, _port(host), source))
        return found

    def _exposed(self) -> list[Sourced[int]]:
        ports = (_port(text.partition("/")[0]) for text in _texts(self.spec.get("expose")))
        return [Sourced(port, self._at("expose")) for port in ports if port is not None]

    def _depends(self) -> Iterator[str]:
        for key in ("depends_on", "links"):
            value = self.spec.get(key)
            names = value.keys() if isinstance(value, CommentedMap) else _texts(value)
            yield from (_scalar(name).partition(":")[0] for name in names)

    def _ready(self) -> Sourced[str] | None:
        health = self.spec.get("healthcheck")
        if not isinstance(health, CommentedMap):
            return None
        probe = " ".join(_texts(health.get("test")))
        source = self._at("healthcheck")
        if "grpc_health_probe" in probe or "grpc-health-probe" in probe:
            return Sourced("grpc", source)
        if (match := _PROBED_PATH.search(probe)) is not None:
            return Sourced(match[1] or "/", source)
        return Sourced("tcp", source) if re.search(r"\bnc\b|/dev/tcp/", probe) else None


def _port(text: str) -> int | None:
    return int(text) if re.fullmatch(r"[0-9]{1,5}", text) else None


def _pairs(environment: Any) -> Iterator[tuple[str, Any, int | None]]:
    if isinstance(environment, CommentedMap):
        for name, value in environment.items():
            if _scalar(name):
                yield _scalar(name), value, _line(environment, name)
    elif isinstance(environment, CommentedSeq):
        for index, entry in enumerate(environment):
            name, separator, value = _scalar(entry).partition("=")
            if name:
                yield name, value if separator else None, _item_line(environment, index)


def _scalar(value: Any) -> str:
    """A value as text; empty for what is none, which as text could be without end."""
    if isinstance(value, bool | ScalarBoolean):
        return "true" if value else "false"
    return "" if value is None or isinstance(value, Mapping | list | tuple | set) else str(value)


def _texts(value: Any) -> list[str]:
    if isinstance(value, CommentedSeq):
        return [_scalar(item.get("path")) if isinstance(item, CommentedMap) else _scalar(item) for item in value]
    return [str(value)] if isinstance(value, str | int) else []


def _words(value: Any) -> list[str]:
    if isinstance(value, str):
        try:
            return shlex.split(value)
        except ValueError:
            return []
    return _texts(value)


def _line(mapping: CommentedMap, key: object) -> int:
    try:
        return int(mapping.lc.key(key)[0]) + 1
    except (KeyError, AttributeError, TypeError):
        # Merged in from an anchor: it has no line of its own here.
        return 0


def _item_line(sequence: CommentedSeq, index: int) -> int:
    try:
        return int(sequence.lc.item(index)[0]) + 1
    except (KeyError, AttributeError, TypeError):
        return 0
