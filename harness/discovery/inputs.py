"""What a service is told from outside: its environment and its flags, with its port and its neighbours filled in.

First comes what somebody wrote down for it, then what its code reads and nobody set.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from harness.discovery.addresses import OWN_HOST, Directory, own_port_in, rewrite
from harness.discovery.findings import TODO, Component, Knob, Sourced
from harness.discovery.names import Meaning, meaning, placeholder
from sandbox.service import PLACEHOLDER

_LOCAL = re.compile(r"(?:[a-z][a-z0-9+.]*://)?(?:localhost|127\.0\.0\.1|0\.0\.0\.0)?(?::\d{1,5})?(?:/\S*)?|\d{2,5}")

_VARIABLE = re.compile(r"[A-Za-z_][\w.-]*", re.ASCII)
_HOST = re.compile(r"[A-Za-z0-9.-]+")


@dataclass(frozen=True, slots=True)
class Inputs:
    """Fills in the inputs of the service `name` of the system `names`."""

    name: str
    names: Sequence[str]
    directory: Directory
    own_ports: frozenset[int]
    knobs: Sequence[Knob]

    def arguments(self, words: Sequence[str]) -> tuple[str, ...]:
        """Arguments that were written down, with addresses as placeholders: `--port=8080`, `-addr :8080`."""
        filled: list[str] = []
        for word in words:
            before = filled[-1] if filled else ""
            flag, separator, value = word.partition("=")
            if separator and flag.startswith("-"):
                filled.append(f"{flag}={self._argument(flag, value)}")
            else:
                filled.append(self._argument(before if before.startswith("-") and "=" not in before else "", word))
        return tuple(filled)

    def written_env(self, component: Component | None) -> tuple[dict[str, Sourced[str]], list[str]]:
        """The environment that was written down, with addresses as placeholders, and what is open about it."""
        env: dict[str, Sourced[str]] = {}
        todos = []
        for name, given in (component.env if component else {}).items():
            if name == "PORT":
                continue
            new = rewrite(name, given.value, self.name, self.own_ports, self.directory)
            value, what = new.value, new.what
            if value == given.value:
                value = self._by_name(name, value)
                what = f"was {given.value}" if value != given.value else ""
            if new.todo:
                todos.append(f"env {name}: {new.todo} ({given.source})")
            if not _VARIABLE.fullmatch(name):
                todos.append(f"env {name}: is no name of a variable ({given.source})")
                continue
            if self.unusable(value):
                todos.append(f"env {name}: its value holds a text that Spurline would fill in ({given.source})")
                continue
            env[name] = Sourced(value, f"{what}, {given.source}" if what else given.source)
        for unset in component.unset if component else ():
            means = self._means(unset.value)
            if means is not None and unset.value != "PORT":
                env[unset.value] = Sourced(_of(means, ""), f"by its name, {unset.source}")
            elif means is None:
                todos.append(f"env {unset.value}: its value comes from the shell or an .env file ({unset.source})")
        return env, todos

    def read_env(self, env: Mapping[str, Sourced[str]], words: Sequence[str]) -> dict[str, Sourced[str]]:
        """Variables that the code reads and nobody set: neighbours, and its own port where that is not PORT."""
        found: dict[str, Sourced[str]] = {}
        own_set = self._reads_port() or _told_port(words, env)
        for knob in self.knobs:
            means = self._read(knob) if knob.kind == "env" and knob.name not in env else None
            if means is None or knob.name == "PORT":
                continue
            if means.service is not None:
                found[knob.name] = Sourced(_of(means, knob.default), f"read in {knob.source}")
            elif not own_set and means.form in ("port", "address"):
                own_set = True
                found[knob.name] = Sourced(_of(means, knob.default), f"its own port, {knob.source}")
        return found

    def flags(self, words: Sequence[str], env: Mapping[str, Sourced[str]]) -> list[str]:
        """Flags that the code takes for its address and its neighbours, and that the command lacks."""
        if words[0] in (TODO, "make", "sh", "npm"):
            return []
        given = {word.partition("=")[0].lstrip("-") for word in words if word.startswith("-")}
        by_env = {neighbour for value in env.values() for neighbour in named(value.value)}
        own_set = self._reads_port() or _told_port(words, env)
        found = []
        for knob in self.knobs:
            name = knob.name.lstrip("-")
            means = self._read(knob) if knob.kind == "flag" and name not in given else None
            if means is None or means.service in by_env:
                continue
            if means.service is None and means.form != "host":
                if own_set:
                    continue
                own_set = True
            found.append(f"{knob.name}={_of(means, knob.default)}")
        return found

    def unusable(self, text: str) -> bool:
        """Whether `text` holds a placeholder that nothing can fill: it was not meant as one."""
        return bool(named(text) - {*self.names}) or self.name in named(text)

    def port_is_known(self, words: Sequence[str], env: Mapping[str, Sourced[str]], component: Component | None) -> bool:
        """Whether it was seen how the service takes its port."""
        written = component is not None and "PORT" in component.env
        return written or self._reads_port() or _told_port(words, env)

    def _argument(self, flag: str, value: str) -> str:
        new = rewrite(flag.lstrip("-"), value, self.name, self.own_ports, self.directory).value
        new = own_port_in(new, self.own_ports)
        if new == value and flag:
            new = self._by_name(flag.lstrip("-"), value)
        return OWN_HOST if new == "0.0.0.0" else new

    def _by_name(self, setting: str, value: str) -> str:
        """A local address or a bare port, by what its setting's name says."""
        means = self._means(setting)
        if means is None or not value or not _LOCAL.fullmatch(value):
            return value
        if (means.form == "port") != value.isdigit():
            return value
        path = re.fullmatch(r"(?:[a-z+]+://)?[^/]*(/.+)?", value)
        return _of(means, value) + ((path[1] or "") if path and means.form != "port" else "")

    def _means(self, setting: str) -> Meaning | None:
        return meaning(setting, self.name, self.names)

    def _read(self, knob: Knob) -> Meaning | None:
        means = self._means(knob.name.lstrip("-"))
        if means is not None and means.service is None and means.form == "address" and _HOST.fullmatch(knob.default):
            # `--bind 0.0.0.0` takes an interface, `--bind :8080` an address.
            return Meaning(None, "host")
        return means

    def _reads_port(self) -> bool:
        return any(knob.kind == "env" and knob.name == "PORT" for knob in self.knobs)


def named(text: str) -> set[str]:
    """The services that the placeholders in `text` name."""
    return {match[2] for match in PLACEHOLDER.finditer(text) if match[2]}


def _told_port(words: Sequence[str], env: Mapping[str, Sourced[str]]) -> bool:
    return any("${port}" in text for text in (*words, *(value.value for value in env.values())))


def _of(means: Meaning, sample: str) -> str:
    """The value for a setting that means this; `sample` tells a URL from `host:port`."""
    if means.service is not None:
        return placeholder(means.service, means.form, sample)
    own = {
        "port": "${port}",
        "host": OWN_HOST,
        "address": f"{OWN_HOST}:${{port}}",
        "url": f"http://{OWN_HOST}:${{port}}",
    }
    return own[means.form]
