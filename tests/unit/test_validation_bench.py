"""The bench: exactly the base commit, private to each command, and found out where somebody alters it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from harness.commands import run, scrubbed_env
from harness.project import read_project
from harness.repository import Repository
from harness.validation.bench import Benches, TamperedError
from harness.validation.static import StaticChecks
from sandbox.confinement import confinement
from tasks.backlog import Backlog, read_ticket
from tasks.errors import CheckoutError
from tasks.ticket import Ticket, TicketChecks

MakeRepo = Callable[[Mapping[str, str]], Path]
SETTINGS = {
    "project": "x",
    "baseline": {
        "entry": "a",
        "services": {"a": {"cwd": "a", "command": ["true"], "link": ["deps", "a/vendor", "missing"]}},
    },
    "checks": {
        "command": [{"name": "one", "run": "true"}],
        "http": "checks/*.yaml",
        "static": ["test ! -e bad", "test ! -e old", "grep -q linked deps/mark"],
    },
}
TICKET = "---\nid: t\ntitle: T\nchecks: {command: [{name: own, run: 'true'}, {name: one, run: 'false'}]}\n---\n"
FILES = {
    "spurline.yaml": json.dumps(SETTINGS),
    ".gitignore": ".spurline/\n/deps/\nvendor/\n",
    "a/app.py": "1\n",
    "old": "red already\n",
    "checks/c.yaml": "- {name: two, request: {path: /}, expect: {status: 200}}\n",
    "tickets/t.md": TICKET,
}


def git(root: Path, *args: str) -> str:
    identity = ("-c", "user.name=T", "-c", "user.email=t@example.invalid")
    return subprocess.run(
        ["git", *identity, *args], cwd=root, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
async def repository(make_repo: MakeRepo) -> Repository:
    root = make_repo(FILES)
    (root / "a/run.sh").write_text("#!/bin/sh\n")
    (root / "a/run.sh").chmod(0o755)
    (root / "a/link").symlink_to("app.py")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "more")
    (root / "deps").mkdir()
    (root / "deps/mark").write_text("linked\n")
    return await Repository.open(root)


@pytest.fixture
async def benches(repository: Repository) -> AsyncIterator[Benches]:
    benches = Benches(repository, repository.root / ".spurline/judge")
    yield benches
    await benches.aclose()
    assert list((repository.root / ".spurline/judge").iterdir()) == []


async def test_a_bench_is_the_commit_and_what_services_link(repository: Repository, benches: Benches) -> None:
    base = await repository.head()
    (repository.root / "a/app.py").write_text("dirty\n")
    async with benches.bench(base) as bench:
        names = {path.relative_to(bench.folder).as_posix() for path in bench.folder.rglob("*") if not path.is_dir()}
        assert names == {*FILES, "a/run.sh", "a/link"}
        assert (bench.folder / "a/app.py").read_text() == "1\n"
        assert os.access(bench.folder / "a/run.sh", os.X_OK)
        assert (bench.folder / "a/link").readlink() == Path("app.py")
        assert (bench.folder / "deps/mark").read_text() == "linked\n"
        assert not (bench.folder / ".git").exists()
    assert not bench.folder.exists()


async def test_what_a_command_leaves_is_gone_for_the_next(repository: Repository, benches: Benches) -> None:
    base = await repository.head()
    async with benches.bench(base) as bench:
        (bench.folder / "conftest.py").write_text("planted\n")
        (bench.folder / "a/app.py").write_text("altered\n")
    async with benches.bench(base) as bench:
        assert not (bench.folder / "conftest.py").exists()
        assert (bench.folder / "a/app.py").read_text() == "1\n"


@pytest.mark.parametrize("how", ["altered", "removed", "mode", "symlink"])
async def test_an_altered_checkout_is_found_out_and_made_anew(
    repository: Repository, benches: Benches, how: str
) -> None:
    base = await repository.head()
    async with benches.bench(base):
        pass
    (checkout,) = (repository.root / ".spurline/judge").glob(f"{base[:12]}-*/tree")
    path = checkout / "a/app.py"
    if how == "altered":
        stat = path.stat()
        path.write_text("2\n")
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    elif how == "mode":
        path.chmod(0o755)
    else:
        path.unlink()
        if how == "symlink":
            path.symlink_to("/etc/hostname")
    with pytest.raises(TamperedError, match=r"a/app\.py"):
        async with benches.bench(base):
            pass
    async with benches.bench(base) as bench:
        assert (bench.folder / "a/app.py").read_text() == "1\n"


async def test_added_files_of_a_checkout_are_never_copied(repository: Repository, benches: Benches) -> None:
    base = await repository.head()
    async with benches.bench(base):
        pass
    (checkout,) = (repository.root / ".spurline/judge").glob(f"{base[:12]}-*/tree")
    (checkout / "sitecustomize.py").write_text("planted\n")
    async with benches.bench(base) as bench:
        assert not (bench.folder / "sitecustomize.py").exists()


async def test_the_docket_is_the_base_commits_whatever_the_work_tree_says(
    repository: Repository, benches: Benches
) -> None:
    base, root = await repository.head(), repository.root
    path = root / "tickets/t.md"
    path.write_text(TICKET.replace("'true'", "'echo weaker'"))
    (root / "checks/c.yaml").write_text("[]\n")
    docket = await benches.docket(base, read_ticket(path))
    assert [(item.name, item.own) for item in docket.items] == [
        ("own", True),
        ("one", True),
        ("one (repository)", False),
        ("two", False),
    ]
    assert docket.ticket.checks.command[0].run == "true"


async def test_a_copy_of_a_ticket_is_judged_by_its_original(repository: Repository, benches: Benches) -> None:
    _, copy = Backlog((read_ticket(repository.root / "tickets/t.md"),)).multiplied(2)
    docket = await benches.docket(await repository.head(), copy)
    assert (docket.ticket.id, docket.ticket.origin, len(docket.items)) == ("t.02", "t", 4)


async def test_a_ticket_is_judged_by_its_own_checks_however_its_id_ends(
    repository: Repository, benches: Benches
) -> None:
    path = repository.root / "tickets/z.md"
    path.write_text("---\nid: t.25\ntitle: T\nchecks: {command: [{name: its own, run: 'true'}]}\n---\n")
    git(repository.root, "add", "-A")
    git(repository.root, "commit", "-qm", "release")
    docket = await benches.docket(await repository.head(), read_ticket(path))
    assert [item.name for item in docket.items if item.own] == ["its own"]


async def test_a_ticket_that_is_not_committed_is_refused(repository: Repository, benches: Benches) -> None:
    ticket = Ticket(id="new", title="N", source=repository.root / "tickets/new.md")
    with pytest.raises(CheckoutError, match="'new' is not in commit"):
        await benches.docket(await repository.head(), ticket)


async def test_a_ticket_that_never_was_a_file_is_taken_as_it_is(repository: Repository, benches: Benches) -> None:
    docket = await benches.docket(await repository.head(), Ticket(id="x", title="X", checks=TicketChecks()))
    assert [item.own for item in docket.items] == [False, False]


async def test_a_link_that_the_commit_brings_opens_nothing(repository: Repository, benches: Benches) -> None:
    root = repository.root
    project = read_project(root)
    (root / "leak").symlink_to(Path.home())
    git(root, "add", "-A")
    git(root, "commit", "-qm", "leak")
    async with benches.exhibit(await repository.head(), project) as bench:
        assert (bench.folder / "leak").is_symlink()
        assert bench.cage(network=False).readable == (root / "deps",)


async def test_static_checks_see_the_commit_and_blame_it_for_what_is_new(
    repository: Repository, benches: Benches
) -> None:
    root, base = repository.root, await repository.head()
    project = read_project(root)
    (root / "bad").write_text("x")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "bad")
    checks = StaticChecks(benches)
    facts, output = await checks.check(project, base, await repository.head())
    assert [(one.outcome, one.base) for one in facts] == [("fail", "pass"), ("fail", "fail"), ("pass", None)]
    assert "test ! -e bad" in output
    assert "test ! -e old" not in output
    untouched, nothing = await checks.check(project, base, base)
    assert ([one.outcome for one in untouched], nothing) == (["pass", "fail", "pass"], "")
    assert "(passes)" in await checks.in_folder(project, root)
    await checks.aclose()


@pytest.mark.skipif(confinement() == "none", reason="needs bubblewrap")
async def test_what_runs_on_a_commit_sees_no_work_tree_and_no_state(repository: Repository, benches: Benches) -> None:
    root = repository.root
    project = read_project(root)
    (root / "secret.env").write_text("hunter2")
    (root / ".spurline").mkdir(exist_ok=True)
    (root / ".spurline/keys").write_text("hunter2")
    async with (
        benches.exhibit(await repository.head(), project) as bench,
        benches.scratch(root / "a", project) as (_, beside),
    ):
        for cage, cwd in ((bench.cage(network=True), bench.folder), (beside, root / "a")):
            # As where the work tree lies in no home and in no folder for temporary files.
            shown = replace(cage, readable=(*cage.readable, root.parent))
            command = (
                f"cat {root}/secret.env {root}/.spurline/keys {root}/.git/config {root}/deps/mark; cat a/app.py app.py"
            )
            ended = await run(["/bin/sh", "-c", command], cwd=cwd, env=scrubbed_env(), timeout_s=60, cage=shown)
            seen = [line for line in ended.output.splitlines() if not line.startswith("cat:")]
            assert seen == ["linked", "1"]
