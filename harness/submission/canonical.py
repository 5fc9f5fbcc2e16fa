"""Canonical JSON: one text for one value, so that a signature is over what was meant and any altered byte shows.

Sorted keys, no white space, UTF-8, no floating-point numbers: as RFC 8785 has it for the values that are allowed here.
"""

from __future__ import annotations

import json
from typing import Any


def canonical(value: Any) -> bytes:
    """The bytes of a JSON value; ValueError for a floating-point number or anything that is not JSON."""
    _allowed(value)
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()


def parse(data: bytes) -> Any:
    """The value whose canonical bytes are `data`; ValueError if it is not canonical, or not JSON at all."""
    value = json.loads(data)
    if canonical(value) != data:
        raise ValueError("it is not in canonical form")
    return value


def _allowed(value: Any) -> None:
    if isinstance(value, dict):
        if not all(isinstance(key, str) for key in value):
            raise ValueError("a key is not a text")
        for one in value.values():
            _allowed(one)
    elif isinstance(value, (list, tuple)):
        for one in value:
            _allowed(one)
    elif value is not None and not isinstance(value, (str, int)):
        raise ValueError(f"{type(value).__name__} has no canonical form here")
