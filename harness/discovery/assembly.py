"""One service's proposal, put together from what started it before, what its manifest says, and what its code reads."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harness.discovery.addresses import OWN_HOST, Directory, own_port_in, rewrite
from harness.discovery.dockerfile import INTERPRETERS
from harness.discovery.findings import TODO, Component, Knob, Program, ServiceFinding, Sourced
from harness.discovery.knobs import knobs
from harness.discovery.names import meaning, placeholder
from harness.discovery.tree import Tree, line_of
from sandbox.service import PLACEHOLDER

_COMPILED: Final = frozenset({"go", "rust", "java"})
_CODE: Final = (".go", ".py", ".js", ".mjs", ".cjs", ".ts", ".rs", ".java", ".kt", ".rb")
_HEALTH_PATH = re.compile(
    r"""["'`](?:(?:GET|HEAD) )?"""
    r"""(?P<path>/(?:[\w-]+/)?(?:_?healthz?|readyz?|livez|_health|health-?check|ping|actuator/health))["'`]"""
)
_GRPC_HEALTH = re.compile(r"grpc_health_v1|grpc\.health\.v1|health_pb2_grpc|grpc-health-check|HealthImplementation")
_LOCAL = re.compile(r"(?:[a-z][a-z0-9+.]*://)?(?:localhost|127\.0\.0\.1)?(?::\d{1,5})?(?:/\S*)?")


@dataclass(frozen=True, slots=True)
class Part:
    """What is known of one service before its neighbours are."""

    name: str
    component: Component | None
    program: Program | None


def assemble(tree: Tree, part: Part, names: Sequence[str], directory: Directory) -> ServiceFinding:
    """The proposal for one service of the system `names`."""
    return _Assembly(tree, part, names, directory).service()


class _Assembly:
    def __init__(self, tree: Tree, part: Part, names: Sequence[str], directory: Directory) -> None:
        self.tree, self.name, self.names, self.directory = tree, part.name, names, directory
        self.component, self.program = part.component, part.program
        self.own_ports = frozenset(port.value for port in part.component.ports) if part.component else frozenset()
        self.cwd = self._cwd()
        self.code = self.program.code if self.program else tuple(self.tree.below(self.cwd.value, *_CODE))
        self.todos = [*(part.component.todos if part.component else ()), *(part.program.todos if part.program else ())]

    def service(self) -> ServiceFinding:
        command, build = self._command()
        settings = knobs(self.tree, self.code)
        env = self._written_env()
        self._add_env(env, settings)
        flags = self._flags(command.value, env, settings)
        command = Sourced((*command.value, *flags), command.source)
        self._check_port(command.value, env, settings)
        self._check_depends(command.value, env)
        program, component = self.program, self.component
        return ServiceFinding(
            name=self.name,
            source=component.source if component else program.source if program else "",
            cwd=self.cwd,
            command=command,
            shared=program.shared if program else (),
            build=build,
            link=program.link if program else (),
            env=env,
            protocol=Sourced("http2", f"gRPC is served, {program.grpc}") if program and program.grpc else None,
            ready=self._ready(),
            todos=tuple(dict.fromkeys(self.todos)),
        )

    def _cwd(self) -> Sourced[str]:
        component, program = self.component, self.program
        where = component.cwd if component else None
        if program is None:
            return where or Sourced(".", "nothing says where")
        # A line that changes into a folder before it starts an interpreter means that folder.
        written_here = component is not None and component.shell and not self._compiled()
        if where is not None and (where.value == program.cwd or (written_here and where.value != ".")):
            return where
        return Sourced(program.cwd, f"of {program.source}")

    def _compiled(self) -> bool:
        return self.program is not None and self.program.language in _COMPILED

    def _command(self) -> tuple[Sourced[tuple[str, ...]], Sourced[str] | None]:
        """The command, ports and neighbours filled in, and the build that it needs."""
        given = self.component.command if self.component else None
        program = self.program
        made = program.command if program else None
        if program is not None and made is not None and (given is None or self._replaces(given.value, program)):
            arguments = _own_arguments(given.value, compiled=self._compiled()) if given else ()
            known = {word.partition("=")[0] for word in made.value}
            extra = tuple(word for word in self._filled(arguments) if word.partition("=")[0] not in known)
            source = f"{made.source}, arguments of {given.source}" if given and extra else made.source
            return Sourced((*made.value, *extra), source), program.build
        if given is not None and given.value and self._usable(given.value):
            build = program.build if program and program.language == "node" else None
            return Sourced(self._filled(self._interpreter(given.value)), given.source), build
        if given is not None and given.value:
            self.todos.append(f"its image starts {' '.join(given.value)!r} ({given.source}); say how it starts here")
        return Sourced((TODO,), "the program and its arguments; its port is in PORT, and ${port} stands for it"), None

    def _replaces(self, given: Sequence[str], program: Program) -> bool:
        """Whether the program's own command serves better than the one that was written down."""
        if given[0] in ("make", "sh"):
            return False
        if self._compiled():
            return True
        written = self.component.cwd if self.component else None
        moved = written is not None and written.value != self.cwd.value
        return moved or not self._usable(given)

    def _usable(self, given: Sequence[str]) -> bool:
        """Whether a command works outside of its image: an interpreter's, or one that was written for a shell here."""
        from_image = self.component is not None and not self.component.shell
        tools = INTERPRETERS | {"npm", "npx", "yarn", "pnpm", "flask", "hypercorn", "poetry", "uv", "bundle", "mix"}
        return not from_image or posixpath.basename(given[0]) in tools

    def _interpreter(self, given: tuple[str, ...]) -> tuple[str, ...]:
        """Python commands through the service's own virtual environment where there is one."""
        made = self.program.command if self.program and self.program.language == "python" else None
        first = given[0]
        if made is None or "/" in first:
            return given
        if first in ("python", "python3"):
            return (made.value[0], *given[1:])
        if first in ("uvicorn", "gunicorn", "flask", "hypercorn") and made.value[0] != "python":
            return (posixpath.join(posixpath.dirname(made.value[0]), first), *given[1:])
        return given

    def _filled(self, words: Sequence[str]) -> tuple[str, ...]:
        filled = []
        for word in words:
            flag, separator, value = word.partition("=")
            if separator and flag.startswith("-"):
                new = rewrite(flag.lstrip("-"), value, self.name, self.own_ports, self.directory).value
                word = f"{flag}={own_port_in(new, self.own_ports)}"
            else:
                word = own_port_in(rewrite("", word, self.name, self.own_ports, self.directory).value, self.own_ports)
            filled.append(word.replace("0.0.0.0", OWN_HOST))
        return tuple(filled)

    def _written_env(self) -> dict[str, Sourced[str]]:
        """The environment that was written down for it, with addresses as placeholders."""
        env: dict[str, Sourced[str]] = {}
        for name, given in (self.component.env if self.component else {}).items():
            if name == "PORT":
                continue
            new = rewrite(name, given.value, self.name, self.own_ports, self.directory)
            value, what = new.value, new.what
            if value == given.value and _LOCAL.fullmatch(value):
                value = self._by_name(name, value)
                what = f"was {given.value}" if value != given.value else ""
            if new.todo:
                self.todos.append(f"env {name}: {new.todo} ({given.source})")
            env[name] = Sourced(value, f"{what}, {given.source}" if what else given.source)
        return env

    def _by_name(self, name: str, value: str) -> str:
        """A local address or a bare port, by what its setting's name says."""
        means = meaning(name, self.name, self.names)
        if means is None or not value or (means.form == "port" and not value.isdigit()):
            return value
        if means.service is None:
            return {"port": "${port}", "address": f"{OWN_HOST}:${{port}}"}.get(means.form, value)
        path = re.fullmatch(r"(?:[a-z+]+://)?[^/]*(/.*)?", value)
        return placeholder(means.service, means.form, value) + ((path[1] or "") if path and path[1] != "/" else "")

    def _add_env(self, env: dict[str, Sourced[str]], settings: Sequence[Knob]) -> None:
        """Variables that the code reads and nobody set: neighbours, and its own port where that is not PORT."""
        names = {knob.name for knob in settings if knob.kind == "env"}
        own_set = "PORT" in names or any("${port}" in value.value for value in env.values())
        for knob in settings:
            if knob.kind != "env" or knob.name in env or knob.name == "PORT":
                continue
            means = meaning(knob.name, self.name, self.names)
            if means is None or (means.service is None and (own_set or means.form not in ("port", "address"))):
                continue
            if means.service is None:
                own_set = True
                env[knob.name] = Sourced(_own_value(means.form), f"its own port, {knob.source}")
            else:
                env[knob.name] = Sourced(
                    _of_neighbour(means.service, means.form, knob.default), f"read in {knob.source}"
                )

    def _flags(self, words: Sequence[str], env: Mapping[str, Sourced[str]], settings: Sequence[Knob]) -> list[str]:
        """Flags that the code takes for its port and its neighbours, and that the command lacks."""
        if words[0] in (TODO, "make", "sh", "npm"):
            return []
        given = {word.partition("=")[0].lstrip("-") for word in words if word.startswith("-")}
        by_env = {neighbour for value in env.values() for neighbour in _named(value.value)}
        own_set = any("${port}" in text for text in (*words, *(value.value for value in env.values()))) or any(
            knob.kind == "env" and knob.name == "PORT" for knob in settings
        )
        flags = []
        for knob in settings:
            name = knob.name.lstrip("-")
            means = meaning(name, self.name, self.names) if knob.kind == "flag" and name not in given else None
            if means is None or means.service in by_env or (means.service is None and own_set):
                continue
            if means.service is None and means.form in ("port", "address"):
                own_set = True
                flags.append(f"{knob.name}={_own_value(means.form)}")
            elif means.service is not None:
                flags.append(f"{knob.name}={_of_neighbour(means.service, means.form, knob.default)}")
        return flags

    def _check_port(self, words: Sequence[str], env: Mapping[str, Sourced[str]], settings: Sequence[Knob]) -> None:
        told = any("${port}" in text for text in (*words, *(value.value for value in env.values())))
        written = self.component is not None and "PORT" in self.component.env
        if words[0] == TODO or told or written or any(knob.name == "PORT" for knob in settings):
            return
        self.todos.append(
            "nothing shows how it takes its port: it is in PORT, and ${port} stands for it in command and env"
        )

    def _check_depends(self, words: Sequence[str], env: Mapping[str, Sourced[str]]) -> None:
        named = {n for text in (*words, *(value.value for value in env.values())) for n in _named(text)}
        for host in self.component.depends if self.component else ():
            service = self.directory.services.get(host)
            if service is not None and service not in named and service != self.name:
                assert self.component is not None
                self.todos.append(
                    f"it depends on {service} ({self.component.source}), but nothing tells it where that is: "
                    f"${{url:{service}}} in env or command"
                )

    def _ready(self) -> Sourced[str] | None:
        if self.component is not None and self.component.ready is not None:
            return self.component.ready
        grpc = self.program is not None and self.program.grpc is not None
        pattern = _GRPC_HEALTH if grpc else _HEALTH_PATH
        for path in self.code:
            text = self.tree.text(path) or ""
            if "test" not in path and (match := pattern.search(text)) is not None:
                source = f"{path}:{line_of(text, match.start())}"
                return Sourced("{grpc: true}" if grpc else f"{{http: {match['path']}}}", source)
        return None


def _own_arguments(words: Sequence[str], *, compiled: bool) -> tuple[str, ...]:
    """The arguments of a written command that are the program's: all after `go run PATH`, or from the first flag on.

    An interpreter's own flags (`-m`) are not the program's: of its command only long flags are taken.
    """
    rest = list(words[3:] if tuple(words[:2]) == ("go", "run") else words)
    mark = "-" if compiled else "--"
    start = next((index for index, word in enumerate(rest) if word.startswith(mark)), len(rest))
    return tuple(rest[start:])


def _own_value(form: str) -> str:
    return "${port}" if form == "port" else f"{OWN_HOST}:${{port}}"


def _of_neighbour(service: str, form: str, default: str) -> str:
    if form == "port":
        return f"${{port:{service}}}"
    if form == "host":
        return f"${{host:{service}}}"
    return placeholder(service, "url" if form == "url" else "address", default)


def _named(text: str) -> set[str]:
    return {match[2] for match in PLACEHOLDER.finditer(text) if match[2]}
