"""Dockerfiles, as far as they tell how a service is started: command, working folder, ports and variables."""

from __future__ import annotations

import json
import posixpath
import re
import shlex
from dataclasses import dataclass, field
from typing import Final

from harness.discovery.findings import Sourced
from harness.discovery.tree import Tree, line_of

INTERPRETERS: Final = frozenset(
    {"node", "python", "python3", "ruby", "java", "php", "deno", "bun", "uvicorn", "gunicorn"}
)
_INSTRUCTION = re.compile(r"^[ \t]*([A-Za-z]+)[ \t]+((?:.*\\\r?\n)*.*)$", re.MULTILINE)


@dataclass(slots=True)
class Image:
    """What the last stage of a Dockerfile says."""

    text: str = ""
    workdir: str = "/"
    entrypoint: Sourced[tuple[str, ...]] | None = None
    command: Sourced[tuple[str, ...]] | None = None
    ports: list[Sourced[int]] = field(default_factory=list)
    env: dict[str, Sourced[str]] = field(default_factory=dict)

    @property
    def start(self) -> Sourced[tuple[str, ...]] | None:
        """Entry point and command together, paths below the working folder made relative to it."""
        last = self.command or self.entrypoint
        if last is None:
            return None
        words = (*(self.entrypoint.value if self.entrypoint else ()), *(self.command.value if self.command else ()))
        return Sourced(tuple(self._relative(word) for word in words), last.source)

    def _relative(self, word: str) -> str:
        prefix = self.workdir.rstrip("/") + "/"
        return word.removeprefix(prefix) if len(prefix) > 1 else word


def read_image(tree: Tree, path: str) -> Image | None:
    """The last stage of the Dockerfile at `path`; None where there is none."""
    text = tree.text(path)
    if text is None:
        return None
    image = Image()
    for match in _INSTRUCTION.finditer(text):
        source = f"{path}:{line_of(text, match.start(1))}"
        _apply(image, match[1].upper(), re.sub(r"\\\r?\n", " ", match[2]).strip(), source)
    image.text = text
    return image


def _apply(image: Image, instruction: str, rest: str, source: str) -> None:
    if instruction == "FROM":
        image.workdir, image.entrypoint, image.command = "/", None, None
        image.ports, image.env = [], {}
    elif instruction == "WORKDIR":
        image.workdir = posixpath.join(image.workdir, rest)
    elif instruction in ("CMD", "ENTRYPOINT"):
        words = _words(rest)
        if instruction == "CMD":
            image.command = Sourced(words, source)
        else:
            image.entrypoint, image.command = Sourced(words, source), None
    elif instruction == "EXPOSE":
        image.ports += [Sourced(int(port), source) for port in re.findall(r"\b(\d{1,5})(?:/tcp)?(?=\s|$)", rest)]
    elif instruction == "ENV":
        for name, value in re.findall(r"([A-Za-z_]\w*)[= ](\"[^\"]*\"|\S+)", rest):
            image.env[name] = Sourced(value.strip('"'), source)


def _words(rest: str) -> tuple[str, ...]:
    if rest.startswith("["):
        try:
            words = json.loads(rest)
        except ValueError:
            words = None
        if isinstance(words, list) and all(isinstance(word, str) for word in words):
            return tuple(words)
    try:
        return tuple(shlex.split(rest))
    except ValueError:
        return (rest,)
