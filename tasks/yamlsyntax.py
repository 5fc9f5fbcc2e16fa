"""The part of YAML that our files are written in: plain values, and no more of them than a person writes.

Tags, directives of other versions, aliases inside of their own anchor and keys that are no words are refused, and so
is a file that would grow beyond bounds (deep nesting, aliases of aliases). What is left loads without surprises:
`no` and `on` are words, a date is the text that was written, every number is finite, every text can be encoded.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from io import StringIO
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.constructor import RoundTripConstructor
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    DocumentStartEvent,
    Event,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)
from ruamel.yaml.nodes import ScalarNode

DEPTH_LIMIT: Final = 50
NODE_LIMIT: Final = 20_000
"""Values in one file, those that aliases repeat counted each time."""

_NO_WORD = re.compile(r"|~|null|true|false", re.IGNORECASE)
_NO_NUMBER = re.compile(r"[-+]?\.(?:inf|nan)", re.IGNORECASE)
_DECIMAL = re.compile(r"[-+]?\.?[0-9][0-9.]*(?:[eE][-+]?[0-9]+)?")
_NO_TEXT = re.compile("[\x00\ud800-\udfff]")


def load(text: str) -> Any:
    """`text` with positions kept; None where it is empty. Raises YAMLError."""
    for _ in _examined(YAML(typ="rt").parse(StringIO(text))):
        pass
    yaml = YAML(typ="rt")
    yaml.Constructor = _Constructor
    return yaml.load(StringIO(text))


def _as_written(constructor: RoundTripConstructor, node: ScalarNode) -> Any:
    return constructor.construct_scalar(node)


class _Constructor(RoundTripConstructor):
    """Dates and the like stay the text that was written, as JSON has no other form for them."""

    yaml_constructors: dict[Any, Callable[..., Any]] = {  # noqa: RUF012  # as the base class declares it
        **RoundTripConstructor.yaml_constructors,
        **{f"tag:yaml.org,2002:{name}": _as_written for name in ("timestamp", "value", "merge")},
    }


@dataclass(slots=True)
class _Collection:
    anchor: str | None
    mapping: bool
    size: int = 1
    children: int = 0

    @property
    def key_is_next(self) -> bool:
        return self.mapping and self.children % 2 == 0


def _examined(events: Iterator[Event]) -> Iterator[Event]:
    """The events, until one of them is refused."""
    open_ones: list[_Collection] = []
    sizes: dict[str, int] = {}
    for event in events:
        _refuse_form(event)
        key = bool(open_ones) and open_ones[-1].key_is_next
        if isinstance(event, MappingStartEvent | SequenceStartEvent):
            if key:
                raise _refused("a key must be one word or text", event)
            open_ones.append(_Collection(event.anchor, isinstance(event, MappingStartEvent)))
            if len(open_ones) > DEPTH_LIMIT:
                raise _refused(f"it is nested deeper than {DEPTH_LIMIT} levels", event)
        elif isinstance(event, ScalarEvent):
            _refuse_scalar(event, key)
            _count(event, event.anchor, 1, open_ones, sizes)
        elif isinstance(event, AliasEvent):
            if event.anchor in (collection.anchor for collection in open_ones):
                raise _refused(f"the alias '*{event.anchor}' stands inside of what it names", event)
            _count(event, None, sizes.get(event.anchor, 1), open_ones, sizes)
        elif isinstance(event, MappingEndEvent | SequenceEndEvent):
            ended = open_ones.pop()
            _count(event, ended.anchor, ended.size, open_ones, sizes)
        yield event


def _count(event: Event, anchor: str | None, size: int, open_ones: list[_Collection], sizes: dict[str, int]) -> None:
    if anchor is not None:
        sizes[anchor] = size
    if not open_ones:
        return
    open_ones[-1].size += size
    open_ones[-1].children += 1
    if sum(collection.size for collection in open_ones) > NODE_LIMIT:
        raise _refused(f"it holds more than {NODE_LIMIT} values", event)


def _refuse_form(event: Event) -> None:
    if isinstance(event, DocumentStartEvent) and event.version not in (None, (1, 2)):
        raise _refused("only YAML 1.2 is read here", event, "leave the %YAML line out")
    if getattr(event, "tag", None) is not None:
        raise _refused("tags such as '!!str' are not used here", event, "put the value in quotes where it is text")


def _refuse_scalar(event: ScalarEvent, key: bool) -> None:
    if _NO_TEXT.search(event.value):
        raise _refused("a text holds a NUL character or half of a surrogate pair", event)
    if not event.implicit[0]:
        return
    if key and _NO_WORD.fullmatch(event.value):
        raise _refused(f"the key {event.value!r} is no word", event, "put it in quotes")
    if _NO_NUMBER.fullmatch(event.value) or _too_large(event.value):
        raise _refused(
            f"{event.value[:20]} is no number that can be used here", event, "put it in quotes where it is text"
        )


def _too_large(value: str) -> bool:
    try:
        return _DECIMAL.fullmatch(value) is not None and math.isinf(float(value))
    except ValueError:
        return False


def _refused(problem: str, event: Event, note: str | None = None) -> MarkedYAMLError:
    return MarkedYAMLError(problem=problem, problem_mark=event.start_mark, note=note)
