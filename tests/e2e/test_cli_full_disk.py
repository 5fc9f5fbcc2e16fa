"""A disk that is full, for real: a file system of a few megabytes under `.spurline/`, or under the whole clone.

How much a command needs is nobody's promise, so each is given several amounts: with each it does its work, or ends with
one error that names the disk, and leaves nothing running and nothing torn.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.conftest import commit_all
from tests.e2e.conftest import environment
from tests.e2e.sample import sample_project
from tests.e2e.small_disk import SmallDisk, small_disk

MakeRepo = Callable[[Mapping[str, str]], Path]

pytestmark = pytest.mark.timeout(600)

SIZE_BYTES = 48 << 20
KIB = 1024
FILES = {
    **sample_project({"a": "b", "b": None}, "agent: {kind: rehearsal, max_iterations: 2}\n"),
    "tickets/loud.md": """\
---
id: loud
title: b says LOUD
services: [b]
checks:
  http: [{name: the word, request: {path: /}, expect: {status: 200, json: {next: {word: LOUD}}}}]
---
Please.
""",
    "recordings/loud.yaml": """\
ticket: loud
turns:
  - {say: I write it., use: [{tool: write, input: {file_path: b/word.txt, content: loud}}]}
  - {say: It is right.}
  - {say: Louder., use: [{tool: write, input: {file_path: b/word.txt, content: LOUD}}]}
  - {say: It is.}
""",
}
UP, CHECK, RUN = ("baseline", "up"), ("check", "HEAD", "--base", "HEAD~1"), ("run", "--rev", "HEAD~1")
# Nothing of it opens a database that is torn, or says that it is whole.
INTEGRITY = (
    "import sqlite3, sys\n"
    "for path in sys.argv[1:]: print(*sqlite3.connect(path).execute('PRAGMA integrity_check').fetchone())\n"
)


@dataclass(frozen=True, slots=True)
class Stage:
    """The project on its small disk."""

    root: Path
    disk: SmallDisk
    script: Path

    def spurline(self, *arguments: str) -> tuple[int, str, str]:
        return self.disk.run(self.script, *arguments, cwd=self.root, env=environment())

    def left(self) -> list[str]:
        """What of the project's still runs, save for a keeper that has nothing to keep: it ends by itself."""
        found = []
        for process in psutil.process_iter():
            try:
                line, folder = " ".join(process.cmdline()), process.cwd()
            except psutil.Error:
                continue
            ours = str(self.root) in line or folder.startswith(str(self.root))
            if ours and " keeper " not in line and "--tmpfs" not in line and process.pid != os.getpid():
                found.append(line)
        return found


@pytest.fixture
def stage(request: pytest.FixtureRequest, make_repo: MakeRepo, tmp_path: Path, script: Path) -> Iterator[Stage]:
    """The project; what is on its disk is the parameter: its `state`, or the whole `clone`."""
    source = make_repo(FILES)
    (source / "b" / "word.txt").write_text("changed")
    commit_all(source, "b says something else")
    place = source / ".spurline" if request.param == "state" else tmp_path / "disk"
    place.mkdir()
    with small_disk(place, SIZE_BYTES, tmp_path) as disk:
        if disk is None:
            pytest.skip("neither bubblewrap nor a user namespace may mount a file system here")
        root = source
        if request.param == "clone":
            root = place / "repo"
            disk.run("cp", "-r", source, root, cwd=tmp_path)
        stage = Stage(root, disk, script)
        try:
            yield stage
        finally:
            disk.free()
            stage.spurline("baseline", "down")


@pytest.mark.parametrize("stage", ["state"], indirect=True)
@pytest.mark.parametrize("command", [UP, CHECK, RUN], ids=" ".join)
def test_full_from_the_start(stage: Stage, command: tuple[str, ...]) -> None:
    stage.disk.fill()
    code, out, err = stage.spurline(*command)
    assert (code, out) == (2, "")
    error, hint = err.splitlines()
    assert error == f"error: {stage.root / '.spurline'} cannot be written: No space left on device"
    assert "free some space" in hint


@pytest.mark.parametrize(
    ("stage", "command", "lefts_kib"),
    [
        ("state", UP, (16, 48, 112)),
        ("state", CHECK, (64, 224)),
        pytest.param("state", CHECK, (128, 320), marks=pytest.mark.chaos),
        ("state", RUN, (64, 320, 640)),
        pytest.param("state", RUN, (160, 480, 960), marks=pytest.mark.chaos),
        ("clone", RUN, (400,)),
        pytest.param("clone", RUN, (160, 800), marks=pytest.mark.chaos),
    ],
    ids=["baseline up", "check", "check, more", "run", "run, more", "run in the clone", "run in the clone, more"],
    indirect=["stage"],
)
def test_full_midway(stage: Stage, command: tuple[str, ...], lefts_kib: tuple[int, ...]) -> None:
    codes = []
    for left_kib in lefts_kib:
        stage.disk.fill(left_kib * KIB)
        code, out, err = stage.spurline(*command)
        said = f"with {left_kib} KiB left: {code}\n{out}\n{err}"
        codes.append(code)
        if code == 3:
            assert "full" in err, said
            assert str(stage.disk.path) in out + err, said
            assert err.count("\nerror: ") <= 1, said
            assert stage.left() == [], said
        else:
            assert code in (0, 1), said
        assert "Traceback" not in out + err, said
        assert "Spurline itself failed" not in err, said
        stage.disk.free()
        stage.spurline("baseline", "down")
        assert stage.left() == [], said
    assert 3 in codes

    code, out, err = stage.spurline(*command)
    assert code in (0, 1), err
    if command is RUN:
        assert "1 verified" in out, err
    bases = [str(stage.root / ".spurline" / name) for name in ("spurline.db", "checkpoints.db")]
    if command is not UP:
        whole = stage.disk.run(sys.executable, "-c", INTEGRITY, *bases[: 2 if command is RUN else 1], cwd=stage.root)
        assert set(whole[1].split()) == {"ok"}, whole


@pytest.mark.parametrize("stage", ["state"], indirect=True)
def test_what_a_full_disk_broke_off_goes_on(stage: Stage) -> None:
    def begun() -> int:
        return stage.spurline("runs", "list", "--json")[1].count("\n")

    for left_kib in (240, 480, 640):
        known = begun()
        stage.disk.fill(left_kib * KIB)
        code, out, err = stage.spurline(*RUN)
        stage.disk.free()
        if code == 3 and begun() > known:
            break
    else:
        pytest.fail("no run broke off that had begun")
    if "1 error" in out:
        # Only the ticket's own step met it: the ticket has ended.
        stage.spurline("runs", "retry")
    code, out, err = stage.spurline("runs", "resume")
    assert code == 0, f"with {left_kib} KiB left: {out}\n{err}"
    assert "1 verified" in out
    stage.spurline("baseline", "down")
    assert stage.left() == []
