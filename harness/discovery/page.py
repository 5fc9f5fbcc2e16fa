"""`render`: findings as a `spurline.yaml` with a comment behind every guess, and an example ticket.

What is written parses by `harness.project.read_project`: what nobody could guess stands as `TODO`, never as a hole.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import Final

from harness.discovery.findings import TODO, ExternalFinding, Findings, ServiceFinding, Sourced, SuiteFinding
from tasks.text import one_line

_COMMENT_COLUMN: Final = 60
_PLAIN = re.compile(r"[A-Za-z_./][\w./-]*")
_NOT_TEXT = frozenset({"true", "false", "null", "yes", "no", "on", "off", "y", "n", "~", ".", ".inf", ".nan"})
# No file in UTF-8 can hold these.
_UNWRITABLE: Final = re.compile("[\x00\ud800-\udfff]")
TICKET_PATH: Final = "tickets/example.md"


def render(findings: Findings) -> str:
    """The text of `spurline.yaml`."""
    lines = [
        "# Written by `spurline init`: every guess says where it comes from. Lines with TODO are yours to fill in;",
        "# `spurline doctor` says what is still missing.",
        *(f"# Note: {_comment(note)}" for note in findings.notes),
        _line(0, f"project: {_text(findings.project)}"),
        "baseline:",
        _line(1, "driver: local"),
        *_entry(findings),
        _line(1, "services:"),
        *(line for service in findings.services for line in _service(service)),
        *([] if findings.services else _nothing()),
        *_externals(findings.externals),
        _line(0, "tickets: {files: tickets/*.md}", "each ticket is a Markdown file; an example lies there"),
        *_checks(findings),
        _line(0, "agent: {kind: anthropic}", "ANTHROPIC_API_KEY is read from the environment"),
        _line(0, "limits: {agents: 10, budget_usd: 50}", "of one run; raise them when the first one went well"),
        _line(0, "submit: {to: branch}"),
    ]
    return "\n".join(lines) + "\n"


def example_ticket(findings: Findings) -> str:
    """The text of an example ticket for this system."""
    service = _text(findings.entry.value if findings.entry else "app")
    return f"""---
id: example
title: Say in one line what is to be different
services: [{service}]
checks:
  http:
    # Must fail on the baseline and pass once the ticket is done: this is what proves the change.
    - name: the new answer is there
      request: {{service: {service}, method: GET, path: /}}
      expect: {{status: 200, contains: "TODO: a text that only the changed system answers"}}
---
Say what is wanted and why, as to a colleague: what happens now, what should happen, what must stay as it is.
Replace this file by real tickets; `spurline tickets lint` checks them.
"""


def open_ends(text: str) -> list[tuple[int, str]]:
    """The lines of a `spurline.yaml` that still say TODO: number (from 1) and text."""
    return [
        (number, line.strip())
        for number, line in enumerate(text.splitlines(), start=1)
        if re.search(r"\bTODO\b(?!;)", line) and not line.startswith("# Written by")
    ]


def _entry(findings: Findings) -> Iterator[str]:
    if findings.entry is not None:
        yield _line(1, f"entry: {_text(findings.entry.value)}", findings.entry.source)
    else:
        yield _line(1, "entry: app", "TODO: the service that requests from outside reach first")


def _nothing() -> list[str]:
    return [
        _line(2, "app:", "TODO: nothing here names a service; give each its name"),
        _line(3, "cwd: .", "TODO: its folder; a change below it forks this service"),
        _line(
            3,
            f'command: ["{TODO}"]',
            "TODO: the program and its arguments; its port is in PORT, and ${port} stands for it",
        ),
        _line(3, "# build: make app", "run in a checkout before the start"),
        _line(
            3,
            '# env: {USERS_URL: "${url:users}"}',
            "another service through the router; ${host:users}, ${port:users} too",
        ),
        _line(3, "# ready: {http: /healthz}", "until then an open port is enough"),
    ]


def _service(service: ServiceFinding) -> Iterator[str]:
    yield _line(2, f"{_text(service.name)}:", service.source)
    yield _line(3, f"cwd: {_text(service.cwd.value)}", service.cwd.source)
    if service.shared:
        yield from _listed("shared", service.shared)
    if service.build is not None:
        yield _line(3, f"build: {_text(service.build.value)}", service.build.source)
    if service.link:
        yield from _listed("link", service.link)
    words = service.command
    source = f"TODO: {words.source}" if words.value[0] == TODO else words.source
    yield _line(3, f"command: {_flow(words.value)}", source)
    if service.env:
        yield _line(3, "env:")
        for name, value in service.env.items():
            yield _line(4, f"{_text(name)}: {_quoted(value.value)}", value.source)
    if service.protocol is not None:
        yield _line(3, f"protocol: {service.protocol.value}", service.protocol.source)
    if service.ready is not None:
        kind = service.ready.value
        probe = f"http: {_text(kind)}" if kind.startswith("/") else f"{kind}: true"
        yield _line(3, f"ready: {{{probe}}}", service.ready.source)
    else:
        yield _line(
            3, "# ready: {http: /healthz}", "no health check was seen; until one is named, an open port is enough"
        )
    for todo in service.todos:
        yield _line(3, f"# TODO: {_comment(todo)}")


def _listed(key: str, values: Iterable[Sourced[str]]) -> Iterator[str]:
    yield _line(3, f"{key}:")
    for value in values:
        yield _line(4, f"- {_text(value.value)}", value.source)


def _externals(externals: Iterable[ExternalFinding]) -> Iterator[str]:
    found = list(externals)
    if found:
        yield _line(
            2, "# These run elsewhere (`docker compose up`): every fork shares them. Name one here to route to it."
        )
    for external in found:
        where = f"{external.source}, {external.image}"
        if external.url is None:
            yield _line(2, f"# {external.name}: {{url: TODO}}", f"{where}: publishes no port; publish one on 127.0.0.1")
        else:
            protocol = ", protocol: tcp" if external.url.startswith("tcp:") else ""
            yield _line(2, f'# {external.name}: {{url: "{external.url}"{protocol}}}', where)


def _checks(findings: Findings) -> Iterator[str]:
    yield "checks:"
    if findings.static:
        yield _line(1, "static:", "fail a change in seconds, before anything is started")
        for suite in findings.static:
            yield _line(2, f"- {_quoted(suite.run)}", suite.source)
    else:
        yield _line(1, '# static: ["make lint"]', "TODO: linters and type checkers, run before anything is started")
    where = "SPURLINE_URL and SPURLINE_URL_<SERVICE>"
    if any(suite.certain for suite in findings.checks):
        todo = "" if all(suite.told for suite in findings.checks) else "; TODO: let them read these"
        yield _line(1, "command:", f"ask the running system at {where}{todo}")
    else:
        yield _line(1, "# command:", f"TODO: test suites that ask the running system, at {where}")
    if not findings.checks:
        yield _line(1, '#   - {name: integration, run: "pytest -q tests/integration", timeout: 120s}')
    for suite in findings.checks:
        yield _line(1, _suite(suite), suite.source)
    yield _line(
        1,
        "# http: checks/*.yaml",
        "requests with what to expect, one file a topic; Spurline's docs/reference.md has the form",
    )
    yield _line(1, "repeat: 2", "how often in a row a ticket's own check must pass")
    if findings.protected:
        yield _line(
            1, "protected:", "what judges a change; an agent's change here is never part of a verified submission"
        )
        for path in findings.protected:
            yield _line(2, f"- {_quoted(path.value)}", path.source)
    else:
        yield _line(1, '# protected: ["tests/**", "checks/**"]', "so as it is by default")


def _suite(suite: SuiteFinding) -> str:
    entry = f"  - {{name: {_text(suite.name)}, run: {_quoted(suite.run)}, timeout: 300s}}"
    return entry if suite.certain else f"#{entry}"


def _line(depth: int, text: str, comment: str = "") -> str:
    line = "  " * depth + text
    return f"{line.ljust(_COMMENT_COLUMN)} # {_comment(comment)}" if comment else line


def _comment(text: str) -> str:
    return one_line(_UNWRITABLE.sub("\ufffd", text), 300)


def _text(text: str) -> str:
    """A scalar, quoted only where YAML would read something else."""
    return text if (_PLAIN.fullmatch(text) and text.lower() not in _NOT_TEXT) or text == "." else _quoted(text)


def _quoted(text: str) -> str:
    # JSON's strings are YAML's double-quoted ones, save that DEL and C1 must be escaped in YAML too.
    quoted = json.dumps(_UNWRITABLE.sub("\ufffd", text), ensure_ascii=False)
    return re.sub(r"[\x7f-\x9f\u2028\u2029\ufeff]", lambda m: f"\\u{ord(m[0]):04x}", quoted)


def _flow(words: Iterable[str]) -> str:
    return "[" + ", ".join(_quoted(word) for word in words) + "]"
