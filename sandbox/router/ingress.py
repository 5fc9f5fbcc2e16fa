"""Slots of the keyed ingress: blocks of ports, one port a service and sandbox, bound before anybody needs them.

What holds: a slot belongs to one sandbox at a time, and the one that was let go longest ago is given out first, so
that a forgotten browser tab does not end up in somebody else's sandbox soon.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Final

BLOCK_SLOTS: Final = 32
"""Sandboxes a block: each service gets one listener with this many addresses."""


class Slots:
    """Which slot is free, and which port each service has in it."""

    def __init__(self, services: Sequence[str]) -> None:
        self._services = tuple(services)
        self._blocks: list[Mapping[str, Mapping[int, int]]] = []
        self._free: deque[int] = deque()
        self._taken: set[int] = set()

    @property
    def blocks(self) -> Sequence[Mapping[str, Mapping[int, int]]]:
        """For each block: service -> slot -> port."""
        return self._blocks

    @property
    def ports_needed(self) -> int:
        """By one more block."""
        return BLOCK_SLOTS * len(self._services)

    @property
    def has_free(self) -> bool:
        return bool(self._free)

    def block(self, ports: Sequence[int]) -> Mapping[str, Mapping[int, int]]:
        """The next block over these ports; nothing is kept yet."""
        first = len(self._blocks) * BLOCK_SLOTS
        slots = range(first, first + BLOCK_SLOTS)
        given = iter(ports)
        return {service: {slot: next(given) for slot in slots} for service in self._services}

    def add(self, block: Mapping[str, Mapping[int, int]]) -> None:
        """The block is about to be bound. Its slots are not given out before `open` says that it is."""
        self._blocks.append(block)

    def open(self) -> None:
        """The listeners of the newest block are bound."""
        first = (len(self._blocks) - 1) * BLOCK_SLOTS
        self._free.extend(range(first, first + BLOCK_SLOTS))

    def take(self) -> int:
        slot = self._free.popleft()
        self._taken.add(slot)
        return slot

    def release(self, slot: int) -> None:
        """Give a slot back; one that is free already stays so."""
        if slot in self._taken:
            self._taken.remove(slot)
            self._free.append(slot)

    def ports(self, slot: int) -> Sequence[int]:
        """All ports of a slot, none where there is no such slot."""
        block = slot // BLOCK_SLOTS
        return [ports[slot] for ports in self._blocks[block].values()] if block < len(self._blocks) else []

    def port(self, slot: int, service: str) -> int:
        return self._blocks[slot // BLOCK_SLOTS][service][slot]
