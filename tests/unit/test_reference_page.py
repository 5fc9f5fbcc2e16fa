"""docs/reference.md names all that users can write and read."""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
from typer.main import get_command

import tasks.errors
from harness.cli.app import COMMANDS
from harness.settings import ServiceSettings, Settings
from tasks.errors import SpurlineError
from tasks.events import EventKind
from tasks.ticket import Frozen, HttpCheck, TicketHead

PAGE = (Path(__file__).parents[2] / "docs" / "reference.md").read_text()


def keys(model: type[Frozen], above: str = "") -> Iterator[str]:
    """The keys of the file, as the page writes them; of services those below `….`."""
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, Frozen):
            yield from keys(inner, f"{above}{name}.")
        elif name != "services":
            yield f"{above}{name}"


def options(command: Any) -> Iterator[str]:
    for below in getattr(command, "commands", {}).values():
        yield from options(below)
    for parameter in command.params:
        yield from (option for option in parameter.opts if option.startswith("--"))


def test_every_key_of_the_file() -> None:
    assert [key for key in keys(Settings) if f"`{key}`" not in PAGE] == []
    of_services = [name for name in ServiceSettings.model_fields if name != "cwd"]
    assert [name for name in of_services if f"`….{name}`" not in PAGE] == []
    assert "`baseline.services.NAME.cwd`" in PAGE


def test_every_key_of_tickets_and_checks() -> None:
    names = [*TicketHead.model_fields, *HttpCheck.model_fields]
    assert [name for name in names if name != "kind" and f"{name}:" not in PAGE] == []


@pytest.mark.parametrize("name", [name for name in COMMANDS if name != "keeper"])
def test_every_command_with_its_options(name: str) -> None:
    command = get_command(importlib.import_module(COMMANDS[name]).app)
    for verb in getattr(command, "commands", {"": None}):
        assert f"`{f'{name} {verb}'.strip()}" in PAGE or f"`{verb}`" in PAGE
    assert [option for option in options(command) if not re.search(rf"{option}(?![\w-])", PAGE)] == []


def test_every_event() -> None:
    assert [kind for kind in get_args(EventKind) if f"`{kind}`" not in PAGE] == []


def test_every_code_of_an_error() -> None:
    errors = [one for one in vars(tasks.errors).values() if isinstance(one, type) and issubclass(one, SpurlineError)]
    assert [error.code for error in errors if f"`{error.code}`" not in PAGE] == []
