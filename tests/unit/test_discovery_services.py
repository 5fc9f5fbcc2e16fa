"""What `doctor` says of services, machine and agent, without anything running."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest

from harness.discovery.diagnosis import Diagnosis, exit_code, ok, problem, warning
from harness.discovery.machine import machine, model
from harness.discovery.services import Ground, services
from harness.settings import AgentSettings
from sandbox.service import Service, System


def said(root: Path, files: frozenset[str] | None = None, **given: Any) -> list[Diagnosis]:
    service = Service(**{"name": "web", "cwd": "web", "command": ("sh", "run.sh"), **given})
    return list(services(System("shop", "web", {"web": service}), Ground(root, files, {"PATH": "/usr/bin:/bin"})))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "web").mkdir()
    return tmp_path


def test_a_service_that_lacks_nothing_is_ok(root: Path) -> None:
    assert [one.level for one in said(root, frozenset({"web/run.sh"}))] == ["ok"]


def test_a_link_that_leads_back_into_the_work_tree_is_named(root: Path) -> None:
    (root / "node_modules").mkdir()
    (root / "node_modules/.store").mkdir()
    (root / "node_modules/tea").symlink_to(".store")
    assert [one.level for one in said(root, frozenset({"web/run.sh"}), link=("node_modules",))] == ["ok"]
    (root / "node_modules/money").symlink_to("../web")
    found = said(root, frozenset({"web/run.sh"}), link=("node_modules",))
    assert [one.level for one in found] == ["warning", "ok"]
    assert "by 'node_modules/money'" in found[0].text


def test_a_folder_in_which_another_service_lies_is_named(root: Path) -> None:
    (root / "stock").mkdir()
    parts = {
        "web": Service(name="web", cwd=".", command=("sh", "web/run.sh")),
        "twin": Service(name="twin", cwd="stock", command=("sh", "run.sh")),
        "stock": Service(name="stock", cwd="stock", command=("sh", "run.sh")),
    }
    files = frozenset({"web/run.sh", "stock/run.sh"})
    found = services(System("shop", "web", parts), Ground(root, files, {"PATH": "/usr/bin:/bin"}))
    (nested,) = [one for one in found if "lie those of" in one.text]
    assert (nested.level, nested.subject) == ("warning", "service web")
    assert "in its cwd '.' lie those of twin, stock" in nested.text


@pytest.mark.parametrize(
    ("given", "text", "kind"),
    [
        ({"command": ("TODO",)}, "still TODO", "config"),
        ({"cwd": "nowhere"}, "cwd 'nowhere' does not exist", "config"),
        ({"shared": ("libs",)}, "shared 'libs' does not exist", "config"),
        ({"link": ("node_modules",)}, "link 'node_modules' is no folder", "environment"),
        ({"command": ("no-such-program-here",)}, "no program 'no-such-program-here' on PATH", "environment"),
        ({"command": ("./bin/web",)}, "git does not track 'web/bin/web', and no build makes it", "config"),
        ({"command": ("/no/such/program",)}, "is no program", "config"),
        ({"build": "no-such-builder --all"}, "its build needs 'no-such-builder'", "environment"),
        ({"build": "make 'x"}, "open quotation mark", "config"),
    ],
)
def test_names_what_a_service_lacks(root: Path, given: dict[str, Any], text: str, kind: str) -> None:
    found = said(root, frozenset({"web/run.sh"}), **given)
    assert [one.level for one in found] == ["problem"], found
    assert text in found[0].text
    assert (found[0].kind, bool(found[0].way_out)) == (kind, True)


@pytest.mark.parametrize(
    "build", ["go build -o bin/web .", "A=1 sh -c x", "cd x && make", "./build.sh", "[ -f x ] || make"]
)
def test_a_build_may_make_the_program(root: Path, build: str) -> None:
    found = said(root, frozenset({"web/run.sh"}), command=("./bin/web",), build=build)
    assert not any("git does not track" in one.text for one in found)


def test_a_link_may_hold_the_program(root: Path) -> None:
    program = root / ".venv" / "bin" / "python"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    given: dict[str, Any] = {"command": ("../.venv/bin/python", "app.py"), "link": (".venv",)}
    assert [one.level for one in said(root, frozenset({"web/app.py"}), **given)] == ["ok"]
    program.chmod(0o644)
    assert "is not there" in said(root, frozenset({"web/app.py"}), **given)[0].text


def test_a_link_that_git_tracks_is_a_warning(root: Path) -> None:
    (root / "gen").mkdir()
    found = said(root, frozenset({"web/run.sh", "gen/x.go"}), link=("gen",))
    assert [one.level for one in found] == ["warning", "ok"]


def test_a_folder_that_is_not_committed_is_a_problem(root: Path) -> None:
    assert "git has no file below cwd 'web'" in said(root, frozenset({"webber/app.py"}))[0].text


def test_what_runs_elsewhere_is_asked(root: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        url = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        assert [one.level for one in said(root, command=(), url=url)] == ["ok"]
    found = said(root, command=(), url=url)
    assert found[0].level == "problem"
    assert url in found[0].text


def test_a_service_that_nobody_names_is_a_warning(root: Path) -> None:
    system = System("shop", "web", {n: Service(n, cwd="web", command=("sh",)) for n in ("web", "lonely")})
    found = list(services(system, Ground(root, None, {"PATH": "/bin"})))
    assert [(one.subject, one.level) for one in found if one.level != "ok"] == [("service lonely", "warning")]


def test_the_agent_needs_its_key_or_its_recordings(tmp_path: Path) -> None:
    live = AgentSettings(kind="anthropic")
    assert model(live, tmp_path, {}).level == "problem"
    assert model(live, tmp_path, {"ANTHROPIC_API_KEY": " "}).level == "problem"
    assert "k-1" not in model(live, tmp_path, {"ANTHROPIC_API_KEY": "k-1"}).text
    assert model(live, tmp_path, {"ANTHROPIC_API_KEY": "k-1"}).level == "ok"
    rehearsal = AgentSettings(kind="rehearsal")
    assert model(rehearsal, tmp_path, {}).kind == "config"
    (tmp_path / "recordings").mkdir()
    (tmp_path / "recordings" / "a.yaml").write_text("")
    assert model(rehearsal, tmp_path, {}).level == "ok"


def test_looks_at_the_whole_machine(tmp_path: Path) -> None:
    found = {one.subject: one for one in machine(tmp_path)}
    assert list(found) == ["python", "git", "envoy", "confinement", "disk", "open files"]
    assert found["envoy"].level == "ok", found["envoy"].text
    assert all(one.way_out for one in found.values() if one.level != "ok")


def test_files_to_mend_come_before_a_machine_to_mend() -> None:
    assert exit_code([ok("a", ""), warning("b", "", kind="config")]) == 0
    assert exit_code([problem("a", "")]) == 3
    assert exit_code([problem("a", ""), problem("b", "", kind="config")]) == 2
