"""Values that hold addresses: `http://users:8080/v1` of a compose file as `${url:users}/v1`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from harness.discovery.names import form_of, placeholder

OWN_HOST = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Directory:
    """Who is reachable under which host name."""

    services: Mapping[str, str]
    """Host name -> service of ours."""
    externals: Mapping[str, Mapping[int, int]]
    """Host name of something that runs elsewhere -> its port -> the port it has on this machine."""


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A value as it stands in `spurline.yaml`, and what is open about it."""

    value: str
    what: str = ""
    """What was replaced, for the comment."""
    todo: str = ""


def rewrite(setting: str, value: str, own: str, own_ports: frozenset[int], directory: Directory) -> Rewritten:
    """`value` of `setting` with its neighbours' addresses as placeholders, and its own port as `${port}`."""
    names = [*directory.services, *directory.externals]
    if names:
        pattern = _address_pattern(tuple(sorted(names, key=len, reverse=True)))
        match = pattern.search(value)
        if match is not None and _means_address(setting, value, match):
            return _replaced(setting, value, pattern, own, own_ports, directory)
    return _own(setting, value, own_ports)


def _address_pattern(names: tuple[str, ...]) -> re.Pattern[str]:
    hosts = "|".join(re.escape(name) for name in names)
    return re.compile(
        rf"(?<![\w./-])(?:(?P<scheme>[a-z][a-z0-9+.]*)://)?(?P<login>[^\s/@]+@)?(?P<host>{hosts})(?::(?P<port>\d{{1,5}}))?(?![\w.-])"
    )


def _means_address(setting: str, value: str, match: re.Match[str]) -> bool:
    if match["scheme"] or match["port"]:
        return True
    form = form_of(setting)
    return match.end() - match.start() == len(value) and form is not None and form[1] != "port"


def _replaced(
    setting: str, value: str, pattern: re.Pattern[str], own: str, own_ports: frozenset[int], directory: Directory
) -> Rewritten:
    said: list[str] = []
    todos: list[str] = []

    def replacement(match: re.Match[str]) -> str:
        host = match["host"]
        scheme = f"{match['scheme']}://" if match["scheme"] else ""
        login = match["login"] or ""
        service = directory.services.get(host)
        if service is None:
            ports = directory.externals[host]
            port = int(match["port"]) if match["port"] else next(iter(ports), 0)
            if port not in ports:
                todos.append(f"{host} runs in a container that publishes no port {port or ''}".rstrip())
                return match[0]
            said.append(f"{host} as it is published on this machine")
            return f"{scheme}{login}{OWN_HOST}" + (f":{ports[port]}" if match["port"] or scheme else "")
        if service == own:
            said.append("itself")
            return f"{scheme}{login}{OWN_HOST}:${{port}}"
        said.append(f"was {match[0]}")
        if not match["port"] and not match["scheme"]:
            return placeholder(service, "host")
        if login or match["scheme"] not in ("http", "https"):
            return f"{scheme}{login}${{host:{service}}}:${{port:{service}}}"
        return placeholder(service, "url")

    # Settings that hold several addresses, separated by commas, are rewritten one by one.
    rewritten = pattern.sub(replacement, value)
    return Rewritten(rewritten, ", ".join(dict.fromkeys(said)), "; ".join(dict.fromkeys(todos)))


def _own(setting: str, value: str, own_ports: frozenset[int]) -> Rewritten:
    listens = re.fullmatch(r"(?P<host>0\.0\.0\.0|\[::\]|::|localhost|127\.0\.0\.1)?:(?P<port>\d{1,5})", value)
    if listens is not None and int(listens["port"]) in own_ports:
        return Rewritten(f"{OWN_HOST}:${{port}}", f"was {value}")
    if re.fullmatch(r"[0-9]{1,5}", value) and int(value) in own_ports and "port" in setting.lower():
        return Rewritten("${port}", f"was {value}")
    return Rewritten(value)


def own_port_in(argument: str, own_ports: frozenset[int]) -> str:
    """A command's argument with the service's own port as `${port}`: `--port=8080`, `:8080`, `8080`."""

    def replacement(match: re.Match[str]) -> str:
        return "${port}" if int(match[0]) in own_ports else match[0]

    replaced = re.sub(r"(?:(?<=[:=])|^)\d{2,5}$", replacement, argument)
    return replaced if replaced == argument else replaced.replace("0.0.0.0:", f"{OWN_HOST}:")
