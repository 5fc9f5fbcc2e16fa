"""A small real system and a backlog of many stories.

Each ticket ends in a way of its own, whatever happens meanwhile: so a run that was killed can be held against one that
was not.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.sample import APP
from tests.conftest import commit_all, git

_SERVICE: Final = f"command: [{sys.executable}, app.py], ready: {{http: /healthz}}"
SETTINGS: Final = f"""\
project: sample
baseline:
  entry: a
  services:
    a: {{cwd: a, {_SERVICE}, env: {{NEXT: "${{host:b}}:${{port:b}}"}}}}
    b: {{cwd: b, {_SERVICE}}}
checks:
  static: ["sh -c '! grep -rl TODO b'"]
  http: checks/*.yaml
agent: {{kind: {{kind}}, max_iterations: 2}}
limits: {{limits}}
"""
CHECKS: Final = "- {name: b answers, request: {path: /}, expect: {status: 200, jmespath: {'next.status': null}}}\n"


@dataclass(frozen=True, slots=True)
class Story:
    """How one kind of ticket goes, and how it ends."""

    ends: str
    turns: str
    preserve: bool = False
    checked: bool = True
    """Whether it has a check of its own: that `b` says the ticket's word."""


def _wrote(content: str, path: str = "b/word.txt") -> str:
    return f"  - {{say: I write it., use: [{{tool: write, input: {{file_path: {path}, content: {content}}}}}]}}\n"


_SAID: Final = "  - {say: It is done.}\n"
STORIES: Final[Mapping[str, Story]] = {
    "loud": Story("verified", _wrote("WORD") + _SAID),
    "mend": Story("verified", _wrote("quiet") + _SAID + _wrote("WORD") + _SAID),
    # Nothing but the planted fault shows that the checks depend on its fork.
    "keep": Story("verified", _wrote("kept", "b/notes.txt") + _SAID, preserve=True, checked=False),
    "asks": Story("needs_human", "  - {say: Which?, use: [{tool: ask_human, input: {reason: Which word?}}]}\n"),
    "lint": Story("failed", _wrote("TODO") + _SAID + _wrote("TODO again") + _SAID),
    "mute": Story("failed", _wrote("mute") + _SAID + _wrote("mute again") + _SAID),
}


def ticket_of(name: str) -> str:
    """The file of the ticket `KIND-NUMBER`."""
    story, word = STORIES[name.split("-")[0]], name.upper()
    expected = f"{{status: 200, json: {{next: {{word: {word}}}}}}}"
    check = f"checks:\n  http: [{{name: the word, request: {{path: /}}, expect: {expected}}}]\n"
    more = ("preserve: true\n" if story.preserve else "") + (check if story.checked else "")
    return f"---\nid: {name}\ntitle: b says {word}\nservices: [b]\n{more}---\nPlease.\n"


def recording_of(name: str) -> str:
    """What the agent of the ticket does."""
    return f"ticket: {name}\nturns:\n{STORIES[name.split('-')[0]].turns.replace('WORD', name.upper())}"


def names(**counts: int) -> tuple[str, ...]:
    """Ids of tickets: so many of each kind, mixed."""
    numbered = [(number, kind) for kind, count in counts.items() for number in range(count)]
    return tuple(f"{kind}-{number}" for number, kind in sorted(numbered))


def make(
    root: Path, tickets: Sequence[str], *, kind: str = "rehearsal", limits: str = "{agents: 100}", store: str = ""
) -> Path:
    """The repository with a system and these tickets; `store` is the URL of a PostgreSQL."""
    settings = SETTINGS.replace("{kind}", kind).replace("{limits}", limits)
    files = {
        "spurline.yaml": settings + (f"store: {store}\n" if store else ""),
        "checks/all.yaml": CHECKS,
        ".gitignore": ".spurline/\n",
        **{f"{name}/{file}": text for name in ("a", "b") for file, text in (("app.py", APP), ("word.txt", name))},
        **{f"tickets/{name}.md": ticket_of(name) for name in tickets},
        **{f"recordings/{name}.yaml": recording_of(name) for name in tickets},
    }
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(root, "init", "-q", "-b", "main")
    commit_all(root, "first")
    return root
