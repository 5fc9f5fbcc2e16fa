"""A backlog: an ordered set of tickets read from Markdown files with YAML front matter."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Container, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tasks.errors import ConfigError, UsageError
from tasks.ticket import ID_LIMIT, Ticket, TicketHead
from tasks.yamlfile import line_of, parse, problems, read_text, validate

_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)(?:^---[ \t]*(?:\r?\n|\Z))", re.DOTALL | re.MULTILINE)
_YAML_LINE: Final = 2
"""The line of the file on which the front matter's YAML begins."""


@dataclass(frozen=True, slots=True)
class Backlog:
    """Tickets in the order in which they are worked on: priority first, then as they were read."""

    tickets: tuple[Ticket, ...]

    def __iter__(self) -> Iterator[Ticket]:
        return iter(self.tickets)

    def __len__(self) -> int:
        return len(self.tickets)

    def only(self, ids: Sequence[str]) -> Backlog:
        """The tickets with these ids, in the backlog's order; UsageError names an id that is not there."""
        known = {ticket.id for ticket in self.tickets}
        for wanted in ids:
            if wanted not in known:
                raise UsageError(f"there is no ticket {wanted!r}", hint="`spurline tickets list` shows them")
        return Backlog(tuple(ticket for ticket in self.tickets if ticket.id in ids))

    def multiplied(self, count: int) -> Backlog:
        """`count` tickets: the backlog over and over, copies numbered `id.02`, `id.03`, … in rounds.

        UsageError where a copy's id is another ticket's, or too long.
        """
        known = {ticket.id.lower() for ticket in self.tickets}
        copies: list[Ticket] = []
        for index in range(count if self.tickets else 0):
            ticket = self.tickets[index % len(self.tickets)]
            nth = index // len(self.tickets) + 1
            copies.append(ticket if nth == 1 else _copy(ticket, nth, known))
        return Backlog(tuple(copies))


def _copy(ticket: Ticket, nth: int, known: Container[str]) -> Ticket:
    name = f"{ticket.id}.{nth:02d}"
    if len(name) > ID_LIMIT or name.lower() in known:
        raise UsageError(f"the ticket {ticket.id!r} cannot be copied as {name!r}", hint="give one of them another id")
    return ticket.model_copy(update={"id": name, "copy_of": ticket.id})


def read_ticket(path: Path) -> Ticket:
    """One ticket file. ConfigError names the file, the line and the key of what is wrong."""
    data, body = _split(path)
    head = validate(data, TicketHead, path, first_line=_YAML_LINE)
    _check_names(head, data, path)
    return Ticket(**head.model_dump(by_alias=True), body=body, source=path)


def _split(path: Path) -> tuple[Any, str]:
    """The front matter as YAML with positions, and the body."""
    text = read_text(path)
    match = _FRONT_MATTER.match(text)
    if match is None:
        raise ConfigError(
            "a ticket begins with a line '---', YAML, and another line '---'",
            path=path,
            line=1,
            hint="`spurline tickets lint` checks all of them; docs/reference.md has an example",
        )
    return parse(match[1], path, first_line=_YAML_LINE), text[match.end() :].strip()


def lint(paths: Iterable[Path]) -> tuple[tuple[Ticket, ...], tuple[ConfigError, ...]]:
    """The tickets that are fine, and everything that is wrong in all of the files and between them."""
    tickets: list[Ticket] = []
    found: list[ConfigError] = []
    for path in paths:
        try:
            data, _ = _split(path)
            wrong = problems(data, TicketHead, path, first_line=_YAML_LINE)
            found += wrong
            if not wrong:
                tickets.append(read_ticket(path))
        except ConfigError as error:
            found.append(error)
    # What depends on a ticket that could not be read is not a second mistake.
    between = [error for error in cross_problems(tickets) if not (found and error.key == "depends")]
    return tuple(tickets), (*found, *between)


def read_backlog(paths: Iterable[Path]) -> Backlog:
    """All tickets of the files. ConfigError on the first bad file, a doubled id, or an unknown `depends`."""
    tickets = [read_ticket(path) for path in paths]
    wrong = list(cross_problems(tickets))
    if wrong:
        raise wrong[0]
    ordered = sorted(enumerate(tickets), key=lambda pair: (-pair[1].priority, pair[0]))
    return Backlog(tuple(ticket for _, ticket in ordered))


def cross_problems(tickets: Sequence[Ticket]) -> Iterator[ConfigError]:
    """What is wrong between tickets that are each fine: doubled ids, `depends` on nothing or in a circle."""
    first: dict[str, Ticket] = {}
    for ticket in tickets:
        assert ticket.source is not None
        # Branches and folders are made of ids, and some file systems do not tell case apart.
        if (other := first.setdefault(ticket.id.lower(), ticket)) is not ticket:
            yield ConfigError(
                f"the id {ticket.id!r} is taken by {other.source}",
                path=ticket.source,
                key="id",
                hint="ids are unique in the backlog, upper and lower case alike",
            )
    known = {ticket.id: ticket for ticket in tickets}
    for ticket in tickets:
        assert ticket.source is not None
        for wanted in ticket.depends:
            if wanted not in known:
                yield ConfigError(f"depends on {wanted!r}, which is no ticket", path=ticket.source, key="depends")
        if _in_circle(ticket, known):
            yield ConfigError("depends on itself, in a circle", path=ticket.source, key="depends")


def _in_circle(ticket: Ticket, known: dict[str, Ticket]) -> bool:
    seen: set[str] = set()
    front = list(ticket.depends)
    while front:
        wanted = front.pop()
        if wanted == ticket.id:
            return True
        if wanted not in seen and wanted in known:
            seen.add(wanted)
            front += known[wanted].depends
    return False


def _check_names(head: TicketHead, data: object, path: Path) -> None:
    doubled = [name for name, count in Counter(check.name for check in head.checks.all).items() if count > 1]
    if doubled:
        line = line_of(data, ("checks",), first_line=_YAML_LINE)
        raise ConfigError(f"two checks are named {doubled[0]!r}", path=path, line=line, key="checks")
