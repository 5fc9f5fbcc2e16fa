"""One service's proposal, put together from what started it before, what its manifest says, and what its code reads."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from harness.discovery.addresses import Directory
from harness.discovery.dockerfile import INTERPRETERS
from harness.discovery.findings import TODO, Component, Program, ServiceFinding, Sourced
from harness.discovery.ignored import ignored_folders
from harness.discovery.inputs import Inputs, named
from harness.discovery.knobs import knobs
from harness.discovery.tree import Tree, line_of

_COMPILED: Final = frozenset({"go", "rust", "java"})
_CODE: Final = (".go", ".py", ".js", ".mjs", ".cjs", ".ts", ".rs", ".java", ".kt", ".rb")
_HEALTH_PATH = re.compile(
    r"""["'`](?:(?:GET|HEAD) )?"""
    r"""(?P<path>/(?:[\w-]+/)?(?:_?healthz?|readyz?|livez|_health|health-?check|ping|actuator/health))["'`]"""
)
_GRPC_HEALTH = re.compile(r"grpc_health_v1|grpc\.health\.v1|health_pb2_grpc|grpc-health-check|HealthImplementation")
_COMMAND: Final = "the program and its arguments; its port is in PORT, and ${port} stands for it"
_UNKNOWN_PORT: Final = (
    "nothing shows how it takes its port: PORT holds it, and ${port} stands for it in command and env"
)


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
        self.inputs = Inputs(part.name, names, directory, self.own_ports, knobs(tree, self.code))
        self.todos = [*(part.component.todos if part.component else ()), *(part.program.todos if part.program else ())]

    def service(self) -> ServiceFinding:
        command, build = self._command()
        if any(self.inputs.unusable(word) for word in command.value):
            self.todos.append(f"its command holds a text that Spurline would fill in ({command.source})")
            command = Sourced((TODO,), _COMMAND)
        env, todos = self.inputs.written_env(self.component)
        self.todos += todos
        env = {**(self.program.env if self.program else {}), **env}
        env |= self.inputs.read_env(env, command.value)
        command = Sourced((*command.value, *self.inputs.flags(command.value, env)), command.source)
        if command.value[0] != TODO and not self.inputs.port_is_known(command.value, env, self.component):
            self.todos.append(_UNKNOWN_PORT)
        self._check_depends(command.value, env)
        program, component = self.program, self.component
        return ServiceFinding(
            name=self.name,
            source=component.source if component else program.source if program else "",
            cwd=self.cwd,
            command=command,
            shared=program.shared if program else (),
            build=build,
            link=self._link(),
            env=env,
            protocol=self._protocol(),
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

    def _written_at(self, word: str) -> str | None:
        """The path below the root that an argument of a line for this machine names: what is there, a file or a folder;
        None for all else."""
        component, value = self.component, word.rpartition("=")[2]
        if component is None or not component.shell or not value or value.startswith(("/", "-", "$")):
            return None
        path = posixpath.normpath(posixpath.join(component.cwd.value if component.cwd else ".", value))
        if path.startswith("..") or not (self.tree.has(path) or ("/" in value and self.tree.has_folder(path))):
            return None
        return path

    def _from_cwd(self, word: str) -> str:
        """An argument as it means the same path in our folder."""
        path, (flag, equals, _) = self._written_at(word), word.rpartition("=")
        return word if path is None else flag + equals + posixpath.relpath(path, self.cwd.value)

    def _link(self) -> tuple[Sourced[str], ...]:
        """The untracked folders that its code is in, and that its command names."""
        found = {link.value: link for link in (self.program.link if self.program else ())}
        given = self.component.command if self.component else None
        named_paths = [path for word in (given.value if given else ()) if (path := self._written_at(word)) is not None]
        if named_paths:
            for folder, link in ignored_folders(self.tree).items():
                if any(path == folder or path.startswith(f"{folder}/") for path in named_paths):
                    found.setdefault(folder, link)
        return tuple(found.values())

    def _compiled(self) -> bool:
        return self.program is not None and self.program.language in _COMPILED

    def _command(self) -> tuple[Sourced[tuple[str, ...]], Sourced[str] | None]:
        """The command, ports and neighbours filled in, and the build that it needs."""
        given = self.component.command if self.component else None
        program = self.program
        made = program.command if program else None
        if program is not None and made is not None and (given is None or self._replaces(given.value, program)):
            arguments = _own_arguments(given.value, compiled=self._compiled()) if given else ()
            arguments = tuple(map(self._from_cwd, arguments))
            known = {word.partition("=")[0] for word in made.value}
            extra = tuple(word for word in self.inputs.arguments(arguments) if word.partition("=")[0] not in known)
            source = f"{made.source}, arguments of {given.source}" if given and extra else made.source
            return Sourced((*made.value, *extra), source), program.build
        if given is not None and given.value and self._usable(given.value):
            build = program.build if program and program.language == "node" else None
            return Sourced(self.inputs.arguments(self._interpreter(given.value)), given.source), build
        if given is not None and given.value:
            self.todos.append(f"its image starts {' '.join(given.value)!r} ({given.source}); say how it starts here")
        return Sourced((TODO,), _COMMAND), None

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

    def _check_depends(self, words: Sequence[str], env: Mapping[str, Sourced[str]]) -> None:
        mentioned = {n for text in (*words, *(value.value for value in env.values())) for n in named(text)}
        for host in self.component.depends if self.component else ():
            service = self.directory.services.get(host)
            if service is not None and service not in mentioned and service != self.name:
                assert self.component is not None
                self.todos.append(
                    f"it depends on {service} ({self.component.source}), but nothing tells it where that is: "
                    f"${{url:{service}}} in env or command"
                )

    def _protocol(self) -> Sourced[str] | None:
        program = self.program
        if program is not None and program.grpc is not None:
            return Sourced("http2", f"gRPC is served, {program.grpc}")
        if program is not None and program.http2 is not None:
            return Sourced("http2", f"served without TLS, {program.http2}")
        return None

    def _ready(self) -> Sourced[str] | None:
        if self.component is not None and self.component.ready is not None:
            return self.component.ready
        if self.program is not None and self.program.http2 is not None and self.program.grpc is None:
            # A probe speaks HTTP/1.1, which a server of HTTP/2 need not answer.
            return Sourced("tcp", self.program.http2)
        grpc = self.program is not None and self.program.grpc is not None
        pattern = _GRPC_HEALTH if grpc else _HEALTH_PATH
        for path in self.code:
            text = self.tree.text(path) or ""
            if "test" not in path and (match := pattern.search(text)) is not None:
                source = f"{path}:{line_of(text, match.start())}"
                return Sourced("grpc" if grpc else match["path"], source)
        return None


def _own_arguments(words: Sequence[str], *, compiled: bool) -> tuple[str, ...]:
    """The arguments of a written command that are the program's: all after `go run PATH`, or from the first flag on.

    An interpreter's own flags (`-m`) are not the program's: of its command only long flags are taken.
    """
    rest = list(words[3:] if tuple(words[:2]) == ("go", "run") else words)
    mark = "-" if compiled else "--"
    start = next((index for index, word in enumerate(rest) if word.startswith(mark)), len(rest))
    return tuple(rest[start:])
