"""Routing keys: unguessable, expiring with their sandbox, never shown in full."""

from __future__ import annotations

import re
import secrets
from typing import Final, NewType

RoutingKey = NewType("RoutingKey", str)
"""16 lower-case hex digits (64 bits): what fits into a trace id beside a mark, random digits and a check."""

KEY_DIGITS: Final = 16
TRACE_MARK: Final = "5b17"
"""How a trace id that carries a key begins: `5b17<key:16><random:8><check:4>`."""
TRACE_RANDOM: Final = slice(20, 28)
"""The random digits of such a trace id: those that stay where the key is written into another's."""

_KEY = re.compile(r"[0-9a-f]{16}")


def new_key() -> RoutingKey:
    """A fresh key from the operating system's cryptographic source."""
    return RoutingKey(secrets.token_hex(KEY_DIGITS // 2))


def is_key(text: str) -> bool:
    """Whether `text` has the form of a key."""
    return _KEY.fullmatch(text) is not None


def trace_id(key: str, random: str) -> str:
    """A trace id that carries `key` beside these 8 hex digits.

    It ends in the key's check: of the trace ids of others that begin with the mark, one in 65,536 ends so. The check
    is made of the four digits that `masked` shows, so it tells nothing about the rest.
    """
    return f"{TRACE_MARK}{key}{random}{int(key[:4], 16) ^ int(TRACE_MARK, 16):04x}"


def masked(key: str) -> str:
    """A key as it may be shown and logged: its first four digits."""
    return f"{key[:4]}…"
