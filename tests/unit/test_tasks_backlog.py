"""Ticket files and backlogs: what each mistake is called, and where it is said to stand."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from tasks.backlog import Backlog, lint, read_backlog, read_ticket
from tasks.errors import ConfigError, UsageError
from tasks.ticket import SafeId, Seconds, Ticket, safe_id

HEAD = "---\nid: t1\ntitle: One\n"


def ticket_file(folder: Path, text: str, name: str = "t.md") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def refused(folder: Path, text: str) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        read_ticket(ticket_file(folder, text))
    assert caught.value.exit_code == 2
    return caught.value


def test_a_whole_ticket(tmp_path: Path) -> None:
    text = """---
id: users-v2
title: Replace the deprecated /v1/users
services: [users]
priority: 2
labels: [api]
depends: [other-id]
preserve: no
checks:
  command: [{name: acceptance, run: "pytest -q x.py", timeout: 1.5m}]
  http:
    - name: an order is charged
      request: {service: gateway, method: POST, path: /orders, json: {user: 7, day: 2026-01-01}}
      expect: {status: 201, json: {charged: true}, jmespath: {"items[0].sku": tea}, contains: tea}
---

# Body

---
is not front matter
"""
    ticket = read_ticket(ticket_file(tmp_path, text))
    assert (ticket.id, ticket.priority, ticket.preserve, ticket.depends) == ("users-v2", 2, False, ("other-id",))
    assert ticket.body == "# Body\n\n---\nis not front matter"
    assert [check.name for check in ticket.checks.all] == ["acceptance", "an order is charged"]
    assert ticket.checks.command[0].timeout == 90
    assert ticket.checks.http[0].request.json_body == {"user": 7, "day": "2026-01-01"}
    assert ticket.checks.http[0].expect.json_body == {"charged": True}
    assert Ticket(**ticket.model_dump(by_alias=True)) == ticket


def test_line_ends_and_marks_of_other_systems(tmp_path: Path) -> None:
    path = tmp_path / "t.md"
    path.write_bytes(b"\xef\xbb\xbf---\r\nid: t1\r\ntitle: One\r\n---\r\nBody\r\n")
    assert read_ticket(path).body == "Body"
    path.write_bytes(b"--- \r\nid: t1\r\ntitle: One\r\nlables: []\r\n---\r\nBody\r\n")
    with pytest.raises(ConfigError) as caught:
        read_ticket(path)
    assert caught.value.line == 4


@pytest.mark.parametrize("text", ["", "no front matter", "---\nid: t1\ntitle: never closed\n", "\n---\nid: t1\n---\n"])
def test_files_without_front_matter(tmp_path: Path, text: str) -> None:
    error = refused(tmp_path, text)
    assert error.line == 1
    assert "begins with a line '---'" in error.problem
    assert error.hint


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("---\n---\n", 2, "", "found nothing"),
        ("---\n- a\n---\n", 2, "", "found a list"),
        ("---\njust text\n---\n", 2, "", "found a text"),
        ("---\nid: t1\n---\n", 2, "title", "field required"),
        ("---\nid: t1\ntitle: a: b\n---\n", 3, "", "not allowed here"),
        ("---\nid: t1\nid: t2\ntitle: x\n---\n", 3, "", "duplicate key"),
        (HEAD + "service: [users]\n---\n", 4, "service", "unknown key"),
        (HEAD + "services: users\n---\n", 4, "services", "valid tuple"),
        (HEAD + "priority: high\n---\n", 4, "priority", "valid integer"),
        ("---\nid: ../up\ntitle: x\n---\n", 2, "id", "no '/'"),
        ("---\nid: a/b\ntitle: x\n---\n", 2, "id", "no '/'"),
        ("---\nid: ''\ntitle: x\n---\n", 2, "id", "1 to 80"),
        ("---\nid: x.lock\ntitle: x\n---\n", 2, "id", "'.lock'"),
        (HEAD + "depends:\n- fine\n- no/t\n---\n", 6, "depends.1", "no '/'"),
        (HEAD + "checks:\n  commands: []\n---\n", 5, "checks.commands", "unknown key"),
        (HEAD + "checks:\n  command:\n  - name: a\n    rum: x\n---\n", 7, "checks.command.0.rum", "unknown key"),
        (
            HEAD + "checks:\n  command:\n  - {name: a, run: b, timeout: soon}\n---\n",
            6,
            "checks.command.0.timeout",
            "20s",
        ),
        (
            HEAD + "checks:\n  command:\n  - {name: a, run: b, timeout: 0s}\n---\n",
            6,
            "checks.command.0.timeout",
            "greater",
        ),
        (
            HEAD + "checks:\n  command:\n  - {name: a, run: b, timeout: yes}\n---\n",
            6,
            "checks.command.0.timeout",
            "20s",
        ),
        (
            HEAD + "checks:\n  command:\n  - {name: a, run: b, timeout: true}\n---\n",
            6,
            "checks.command.0.timeout",
            "20s",
        ),
    ],
)
def test_each_mistake_has_its_place(tmp_path: Path, text: str, line: int, key: str, words: str) -> None:
    error = refused(tmp_path, text)
    assert words in error.problem
    assert (error.line, error.key, error.path) == (line, key, tmp_path / "t.md")


HTTP = HEAD + "checks:\n  http:\n  - name: a\n    request: {path: /x}\n    expect: {status: 200}\n  - name: b\n"


@pytest.mark.parametrize(
    ("text", "line", "key", "words"),
    [
        ("    request: {pth: /x}\n    expect: {status: 1}\n", 10, "request.pth", "unknown key"),
        ("    request: {path: x}\n    expect: {status: 1}\n", 10, "request.path", "pattern"),
        ("    request: {path: /x, method: GRAB}\n    expect: {status: 1}\n", 10, "request.method", "'GET'"),
        ("    request: {path: /x, json: {}, body: a}\n    expect: {status: 1}\n", 10, "request", "either"),
        ("    request: {path: /x}\n    expect: {}\n", 11, "expect", "expects nothing"),
        ("    request: {path: /x}\n    expect: {stat: 1}\n", 11, "expect.stat", "unknown key"),
        (
            "    request: {path: /x}\n    expect:\n      jmespath:\n        'a[': 1\n",
            13,
            "expect.jmespath.a[",
            "JMESPath",
        ),
        ("    request: {path: /x}\n", 9, "expect", "field required"),
    ],
)
def test_each_mistake_in_an_http_check_has_its_place(
    tmp_path: Path, text: str, line: int, key: str, words: str
) -> None:
    error = refused(tmp_path, HTTP + text + "---\n")
    assert words in error.problem
    assert (error.line, error.key) == (line, f"checks.http.1.{key}")


def test_checks_of_one_name_are_refused(tmp_path: Path) -> None:
    error = refused(tmp_path, HEAD + "checks:\n  command: [{name: a, run: x}, {name: a, run: y}]\n---\n")
    assert "two checks are named 'a'" in error.problem
    assert error.line == 4


def test_a_backlog_is_ordered_by_priority_then_as_read(tmp_path: Path) -> None:
    paths = [
        ticket_file(tmp_path, f"---\nid: {name}\ntitle: x\npriority: {priority}\n---\n", f"{name}.md")
        for name, priority in (("a", 0), ("b", 5), ("c", 0), ("d", -1), ("e", 5))
    ]
    backlog = read_backlog(paths)
    assert [ticket.id for ticket in backlog] == ["b", "e", "a", "c", "d"]
    assert [ticket.id for ticket in backlog.only(["c", "b"])] == ["b", "c"]
    with pytest.raises(UsageError, match="no ticket 'z'"):
        backlog.only(["z"])


@pytest.mark.parametrize(
    ("heads", "words", "key"),
    [
        ((("a", ""), ("A", "")), "is taken by", "id"),
        ((("a", "depends: [b]"),), "depends on 'b', which is no ticket", "depends"),
        ((("a", "depends: [a]"),), "in a circle", "depends"),
        ((("a", "depends: [b]"), ("b", "depends: [c]"), ("c", "depends: [a]")), "in a circle", "depends"),
    ],
)
def test_mistakes_between_tickets(tmp_path: Path, heads: Any, words: str, key: str) -> None:
    paths = [
        ticket_file(tmp_path, f"---\nid: {name}\ntitle: x\n{more}\n---\n", f"{place}.md")
        for place, (name, more) in enumerate(heads)
    ]
    with pytest.raises(ConfigError, match=words) as caught:
        read_backlog(paths)
    assert caught.value.key == key
    assert caught.value.path in paths


def test_lint_lists_everything_and_keeps_what_is_fine(tmp_path: Path) -> None:
    paths = [
        ticket_file(tmp_path, "---\nid: a\ntitle: x\n---\n", "a.md"),
        ticket_file(tmp_path, "---\nid: b/b\ntitel: x\n---\n", "b.md"),
        ticket_file(tmp_path, "nothing", "c.md"),
        ticket_file(tmp_path, "---\nid: a\ntitle: x\n---\n", "d.md"),
    ]
    tickets, found = lint(paths)
    assert [ticket.id for ticket in tickets] == ["a", "a"]
    assert {(error.path.name, error.key) for error in found} == {
        ("b.md", "titel"),
        ("b.md", "title"),
        ("b.md", "id"),
        ("c.md", ""),
        ("d.md", "id"),
    }


def test_a_multiplied_backlog_has_ids_of_its_own() -> None:
    backlog = Backlog((Ticket(id="a", title="x"), Ticket(id="b", title="y")))
    copies = backlog.multiplied(205)
    ids = [ticket.id for ticket in copies]
    assert ids[:5] == ["a", "b", "a.02", "b.02", "a.03"]
    assert len(set(ids)) == 205
    assert {ticket.origin for ticket in copies} == {"a", "b"}
    assert [ticket.copy_of for ticket in copies][:5] == [None, None, "a", "b", "a"]
    assert all(safe_id(name) for name in ids)
    assert len(backlog.multiplied(1)) == 1
    assert len(Backlog(()).multiplied(3)) == 0


def test_an_id_that_ends_in_a_number_is_no_copy(tmp_path: Path) -> None:
    path = tmp_path / "t.md"
    path.write_text("---\nid: release-1.25\ntitle: x\n---\n")
    ticket = read_ticket(path)
    assert ticket.origin == "release-1.25"
    copy = Backlog((ticket,)).multiplied(2).tickets[1]
    assert (copy.id, copy.origin) == ("release-1.25.02", "release-1.25")


def test_copies_never_take_the_id_of_another_ticket() -> None:
    with pytest.raises(UsageError, match=r"'a' cannot be copied as 'a\.02'"):
        Backlog((Ticket(id="a", title="x"), Ticket(id="A.02", title="y"))).multiplied(4)
    with pytest.raises(UsageError, match="cannot be copied"):
        Backlog((Ticket(id="a" * 80, title="x"),)).multiplied(2)


@given(st.text(max_size=80))
def test_any_front_matter_is_read_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "any.md"
    path.write_bytes(f"---\n{text}\n---\nbody\n".encode(errors="surrogatepass"))
    with contextlib.suppress(ConfigError):
        assert read_ticket(path).source == path


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("20s", 20), ("1.5m", 90), ("300ms", 0.3), ("1h", 3600), (" 2 s ", 2), (7, 7), (0.5, 0.5)],
)
def test_durations(text: object, seconds: float) -> None:
    assert TypeAdapter(Seconds).validate_python(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "20", "s", "-1s", "1d", "1 s s", "1e3s", "0s", 0, -1, True, None, "٣s", "1.s"])
def test_what_is_no_duration(text: object) -> None:
    with pytest.raises(ValidationError):
        TypeAdapter(Seconds).validate_python(text)


IDS = st.from_regex(r"[A-Za-z0-9._@{~^:?*\[\\/ -]{0,12}", fullmatch=True) | st.text(max_size=6)


@settings(max_examples=25, deadline=None)
@given(st.lists(IDS, min_size=30, max_size=60))
def test_no_accepted_id_leaves_a_folder_or_is_no_branch(names: list[str]) -> None:
    accepted = []
    for name in names:
        try:
            accepted.append(TypeAdapter(SafeId).validate_python(name))
        except ValidationError:
            continue
    for name in accepted:
        assert Path("/state", name).resolve().parent == Path("/state")
        assert Path(name).parts == (name,)
    if accepted:
        # One process for all of them: git says 1 for the first that is no name.
        script = 'for name; do git check-ref-format "refs/heads/spurline/r1/$name" || { echo "$name"; exit 1; }; done'
        done = subprocess.run(["sh", "-c", script, "sh", *accepted], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout
