"""Routing keys: unguessable, expiring with their sandbox, never shown in full."""

from __future__ import annotations

import re
import secrets
from typing import Final, NewType

RoutingKey = NewType("RoutingKey", str)
"""16 lower-case hex digits (64 bits): what fits into a trace id beside a mark and a random tail."""

KEY_DIGITS: Final = 16
TRACE_MARK: Final = "5b17"
"""How a trace id that carries a key begins: `5b17<key:16><random:12>`."""

_KEY = re.compile(r"[0-9a-f]{16}")


def new_key() -> RoutingKey:
    """A fresh key from the operating system's cryptographic source."""
    return RoutingKey(secrets.token_hex(KEY_DIGITS // 2))


def is_key(text: str) -> bool:
    """Whether `text` has the form of a key."""
    return _KEY.fullmatch(text) is not None


def masked(key: str) -> str:
    """A key as it may be shown and logged: its first four digits."""
    return f"{key[:4]}…"
