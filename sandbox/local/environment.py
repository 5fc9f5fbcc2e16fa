"""The environment that services and builds are given."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from sandbox.confinement import scrubbed
from sandbox.service import Service, fill

OWNER_VARIABLE: Final = "SPURLINE_OWNER"
"""Marks everything that one driver started, so that it can be found again when the driver was killed."""


def of_service(
    service: Service,
    caller: Mapping[str, str],
    *,
    address: Callable[[str], tuple[str, int]],
    port: int,
    owner: str,
) -> dict[str, str]:
    """The whole environment of one process of `service`; what the service sets itself wins, but for PORT.

    PYTHONUNBUFFERED is set because output goes to a file: a crash must not take the last lines along.
    """
    own = {name: fill(value, address, port) for name, value in service.env.items()}
    return {
        "PYTHONUNBUFFERED": "1",
        **scrubbed(caller),
        **own,
        "PORT": str(port),
        OWNER_VARIABLE: owner,
    }
