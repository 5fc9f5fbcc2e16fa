"""Names that mean the same service: `USER_SERVICE_ADDR`, `--users-host` and the folder `users` are one neighbour."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, Literal

Form = Literal["url", "host", "port", "address"]
"""What a setting holds of a neighbour: a URL, a host, a port, or `host:port`."""

_FORMS: Final[tuple[tuple[str, Form], ...]] = (
    ("base-url", "url"),
    ("url", "url"),
    ("uri", "url"),
    ("hostname", "host"),
    ("host-port", "address"),
    ("hostport", "address"),
    ("host", "host"),
    ("port", "port"),
    ("endpoint", "address"),
    ("address", "address"),
    ("addr", "address"),
    ("target", "address"),
    ("server", "address"),
    ("upstream", "address"),
)
_FILLERS: Final = ("service", "svc", "server", "srv", "http", "grpc", "api", "app", "backend")
_OWN_PORT: Final = (
    "port", "http-port", "server-port", "app-port", "service-port", "listen-port", "bind-port", "grpc-port",
)  # fmt: skip
_OWN_ADDRESS: Final = (
    "addr", "address", "listen", "listen-addr", "listen-address", "bind", "bind-addr", "bind-address", "http-addr",
    "http-address", "server-addr", "server-address", "grpc-addr", "listen-on",
)  # fmt: skip

_OWN_HOST: Final = ("host", "bind-host", "listen-host", "server-host", "http-host", "listen-ip", "bind-ip")


@dataclass(frozen=True, slots=True)
class Meaning:
    """What a setting's name says: `form` of `service`; service None is the program's own port or address."""

    service: str | None
    form: Form


def service_name(text: str) -> str:
    """`text` as a service's name in `spurline.yaml`: lower case, digits, dashes. Empty text gives `service`."""
    name = re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-")
    # The router calls the outside `client`: a service of that name could not be told from it.
    return "client-app" if name == "client" else name or "service"


def kebab(name: str) -> str:
    """`USERS_URL`, `--usersUrl` and `users.url` as `users-url`."""
    split = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "-", name)
    return re.sub(r"[^a-z0-9]+", "-", split.lower()).strip("-")


def stem(name: str) -> str:
    """What is left of a name to compare by: no dashes, no `service`, no plural."""
    parts = [part for part in kebab(name).split("-") if part]
    while len(parts) > 1 and parts[-1] in _FILLERS:
        parts.pop()
    joined = "".join(parts)
    for filler in ("service", "svc"):
        if joined.endswith(filler) and len(joined) > len(filler):
            joined = joined.removesuffix(filler)
    return joined[:-1] if joined.endswith("s") and len(joined) > 3 else joined


def meaning(setting: str, own: str, services: Iterable[str]) -> Meaning | None:
    """What the setting `setting` of service `own` holds, as far as its name says; None when it says nothing."""
    name = kebab(setting)
    if name in _OWN_PORT:
        return Meaning(None, "port")
    if name in _OWN_ADDRESS:
        return Meaning(None, "address")
    if name in _OWN_HOST:
        return Meaning(None, "host")
    for ending, form in _FORMS:
        if not name.endswith("-" + ending):
            continue
        found = _neighbour(name.removesuffix("-" + ending), services)
        if found is None:
            continue
        return Meaning(None if found == own else found, form)
    return None


def form_of(setting: str) -> tuple[str, Form] | None:
    """The setting's name without its ending, and what the ending says; None when it says nothing."""
    name = kebab(setting)
    for ending, form in _FORMS:
        if name.endswith("-" + ending):
            return name.removesuffix("-" + ending), form
    return None


def placeholder(service: str, form: Form, sample: str = "") -> str:
    """The placeholder for `form` of `service`. `sample`, a default or present value, tells URL from `host:port`."""
    if form in ("host", "port"):
        return f"${{{form}:{service}}}"
    scheme, separator, _ = sample.partition("://")
    if separator and scheme not in ("http", "https"):
        return f"{scheme}://${{host:{service}}}:${{port:{service}}}"
    if form == "url" and (separator or not sample or ":" not in sample):
        return f"${{url:{service}}}"
    return f"${{url:{service}}}" if separator else f"${{host:{service}}}:${{port:{service}}}"


def _neighbour(text: str, services: Iterable[str]) -> str | None:
    known = {stem(service): service for service in services}
    parts = text.split("-")
    # `SHOP_USERS_URL` speaks of `users`: a prefix may be the system's own name.
    for start in range(len(parts)):
        found = known.get(stem("-".join(parts[start:])))
        if found is not None:
            return found
    return None
