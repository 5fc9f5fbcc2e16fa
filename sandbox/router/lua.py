"""The Lua scripts that are packaged beside this module, and Python values as Lua constants above them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import Final

_NOT_PLAIN: Final = re.compile(r"[^A-Za-z0-9 .:/@_-]+")


@cache
def script(name: str) -> str:
    """The text of a packaged script."""
    return resources.files("sandbox.router").joinpath(name).read_text(encoding="utf-8")


def constants(**values: object) -> str:
    """`local NAME = value` lines. Values are None, booleans, numbers, strings, and lists and mappings of these."""
    return "".join(f"local {name} = {_literal(value)}\n" for name, value in values.items())


def _literal(value: object) -> str:
    match value:
        case None:
            return "nil"
        case bool():
            return "true" if value else "false"
        case int():
            return str(value)
        case str():
            return _string(value)
        case list():
            return "{" + ",".join(map(_literal, value)) + "}"
        case Mapping():
            return "{" + ",".join(f"[{_literal(key)}]={_literal(item)}" for key, item in value.items()) + "}"
        case _:
            raise TypeError(f"no Lua literal for {type(value).__name__}")


def _string(text: str) -> str:
    """Names come from the user's configuration: whatever is not a plain character is escaped."""
    return '"' + _NOT_PLAIN.sub(lambda found: "".join(f"\\{byte:03d}" for byte in found[0].encode()), text) + '"'
