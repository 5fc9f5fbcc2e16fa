"""The kinds of text that `spurline.yaml` is made of: each takes what a user wrote, or says what it must be."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Annotated
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator

from sandbox.service import CLIENT

_SECRET_OPTIONS = ("password", "sslpassword")
_SERVICE = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")


def inside(path: str) -> str:
    """A path relative to the root of the repository, without `..`, in its plain form. Raises ValueError."""
    parts = PurePosixPath(path).parts
    if path.startswith(("/", "~")) or ".." in parts:
        raise ValueError("must be a path below the repository's root, without '..'")
    return str(PurePosixPath(path))


def service_name(name: str) -> str:
    """A service's name: good for a host name, and no caller's from outside. Raises ValueError."""
    if not _SERVICE.fullmatch(name):
        raise ValueError("a service's name is 1 to 63 lower-case letters, digits or '-', with no '-' at either end")
    if name == CLIENT:
        raise ValueError(f"{CLIENT!r} is what callers from outside are called; name the service otherwise")
    return name


def variable(name: str) -> str:
    """The name of an environment variable. Raises ValueError."""
    if not name or "=" in name:
        raise ValueError("the name of a variable is not empty and holds no '='")
    return name


def pattern(text: str) -> str:
    """A regular expression. Raises ValueError."""
    try:
        re.compile(text)
    except re.error as error:
        raise ValueError(f"is no regular expression: {error}") from None
    return text


def address(url: str) -> str:
    """Where something runs already: scheme, host and port. Raises ValueError."""
    wanted = "must be scheme, host and port of what runs already, such as http://127.0.0.1:9000"
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"{wanted} ({error})") from None
    bare = parts.scheme in ("http", "https", "tcp") and parts.hostname and parts.path in ("", "/")
    if not bare or port == 0 or parts.query or parts.fragment or "@" in parts.netloc:
        raise ValueError(wanted)
    return url


def store_address(url: str) -> str:
    """Where a PostgreSQL is. Raises ValueError, which shows nothing of the URL: it may hold a password."""
    wanted = "must be the URL of a PostgreSQL, such as postgresql+psycopg://user@host/database"
    try:
        parts = urlsplit(url)
        _ = parts.port
    except ValueError:
        raise ValueError(wanted) from None
    if (
        parts.scheme not in ("postgresql", "postgresql+psycopg")
        or "@" in parts.path
        or not parts.path.strip("/")
        or parts.fragment
    ):
        raise ValueError(wanted)
    return url


def store_without_secrets(url: str) -> str:
    """A `store_address` for a file that is committed. Raises ValueError for one with a password in it."""
    parts = urlsplit(store_address(url))
    if parts.password is not None or any(name in _SECRET_OPTIONS for name, _ in parse_qsl(parts.query)):
        raise ValueError(
            "must hold no password, since agents read this file: it belongs in ~/.pgpass or PGPASSWORD, "
            "or the whole URL in SPURLINE_STORE"
        )
    return url


Inside = Annotated[str, AfterValidator(inside)]
ServiceName = Annotated[str, AfterValidator(service_name)]
StoreAddress = Annotated[str, AfterValidator(store_without_secrets)]
