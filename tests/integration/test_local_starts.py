"""How services start, and how a start that fails says what is wrong and what to do: builds, links, commands, probes."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import JSONResponse
from starlette.routing import Route

from sandbox.driver import Source
from sandbox.local.driver import LocalDriver
from sandbox.sample import Sample, make_sample
from sandbox.service import Ready, Service, System
from tasks.errors import BaselineError, CheckoutError, ForkError, SandboxError, SandboxGone, StoreError


@pytest.fixture
def sample(tmp_path: Path) -> Sample:
    return make_sample(tmp_path / "repo")


def git(root: Path, *arguments: str) -> str:
    identity = ("-c", "user.name=Test", "-c", "user.email=test@example.invalid")
    done = subprocess.run(["git", *identity, *arguments], cwd=root, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def system_of(**changes: Any) -> System:
    """The sample's `b` alone, with some of its fields changed."""
    service = Service(
        name="b",
        cwd="b",
        command=(sys.executable, "app.py"),
        ready=Ready(kind="http", target="/healthz", timeout_s=20),
    )
    return System(project="sample", entry="b", services={"b": replace(service, **changes)})


@contextlib.asynccontextmanager
async def upped(sample: Sample, state: Path, system: System, commit: str | None = None) -> AsyncIterator[LocalDriver]:
    async with LocalDriver(sample.repo, state) as driver:
        await driver.up(system, commit or sample.base)
        yield driver


def checkouts(tmp_path: Path) -> list[Path]:
    """Those that somebody runs from; the spare one is not among them."""
    folders = (tmp_path / "state" / "checkouts").iterdir()
    return [folder for folder in folders if not folder.name.startswith("spare")]


async def word(url: str) -> str:
    async with httpx.AsyncClient(timeout=20) as http:
        return str((await http.get(url)).json()["word"])


def commit(sample: Sample, files: Mapping[str, str]) -> str:
    for name, text in files.items():
        path = sample.repo / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    git(sample.repo, "add", "--all")
    git(sample.repo, "commit", "--quiet", "--message", "change")
    return git(sample.repo, "rev-parse", "HEAD")


async def test_a_crash_shows_its_traceback(sample: Sample, tmp_path: Path) -> None:
    async with upped(sample, tmp_path / "state", system_of()) as driver:
        await driver.create("x", ttl_s=60)
        with pytest.raises(ForkError) as caught:
            await driver.fork("x", {"b": Source(commit=sample.crashing)})
        assert "ended with exit code 1 before it was ready" in caught.value.message
        assert caught.value.log[0] == "brewing"
        assert caught.value.log[-1] == "RuntimeError: no more tea"
        assert (await driver.get("x")).forks == {}


async def test_a_failed_build_is_a_fork_error_of_stage_build(sample: Sample, tmp_path: Path) -> None:
    system = system_of(build="sh make.sh")
    good = commit(sample, {"b/make.sh": "echo built > word.txt\n"})
    bad = commit(sample, {"b/make.sh": "echo compiling; echo 'no rule to make tea' >&2; exit 3\n"})
    async with upped(sample, tmp_path / "state", system, good) as driver:
        await driver.create("x", ttl_s=60)
        box = await driver.fork("x", {"b": Source(commit=good)})
        assert await word(box.urls["b"]) == "built"
        assert box.forks["b"].build_s > 0
        with pytest.raises(ForkError) as caught:
            await driver.fork("x", {"b": Source(commit=bad)})
        assert caught.value.stage == "build"
        assert caught.value.log == ("compiling", "no rule to make tea")
        assert "ended with exit code 3" in caught.value.message
        assert len(checkouts(tmp_path)) == 2, "each that builds has a checkout of its own, and the failed one's is gone"


async def test_a_build_changes_nobody_elses_files(sample: Sample, tmp_path: Path) -> None:
    base = system_of().services["b"]
    system = System(
        project="sample",
        entry="b",
        services={"b": base, "builder": replace(base, name="builder", build="echo mine > word.txt")},
    )
    async with upped(sample, tmp_path / "state", system) as driver:
        baseline = await driver.baseline()
        assert baseline is not None
        assert await word(baseline.urls["builder"]) == "mine"
        assert await word(baseline.urls["b"]) == "b"


async def test_a_build_may_listen_on_the_port_that_the_service_will_have(sample: Sample, tmp_path: Path) -> None:
    system = system_of(build="sh make.sh")
    good = commit(sample, {"b/make.sh": "true\n"})
    listens = (
        "import http.server, os, threading, urllib.request\n"
        "port = int(os.environ['PORT'])\n"
        "server = http.server.HTTPServer(('127.0.0.1', port), http.server.SimpleHTTPRequestHandler)\n"
        "threading.Thread(target=server.serve_forever, daemon=True).start()\n"
        "word = urllib.request.urlopen(f'http://127.0.0.1:{port}/spoken.txt').read()\n"
        "open('word.txt', 'wb').write(word)\n"
    )
    files = {"b/make.sh": f"{sys.executable} make.py\n", "b/make.py": listens, "b/spoken.txt": "rendered"}
    built = commit(sample, files)
    async with upped(sample, tmp_path / "state", system, good) as driver:
        box = await driver.create("x", ttl_s=60, sources={"b": Source(commit=built)})
        assert await word(box.urls["b"]) == "rendered"


async def test_nobody_takes_the_port_during_the_build_and_answers_for_the_fork(sample: Sample, tmp_path: Path) -> None:
    system = system_of(build="sh make.sh")
    good = commit(sample, {"b/make.sh": "true\n"})
    slow = commit(sample, {"b/make.sh": "echo $PORT > port; while [ ! -e go ]; do sleep 0.02; done\n"})
    async with upped(sample, tmp_path / "state", system, good) as driver:
        creating = asyncio.create_task(driver.create("x", ttl_s=60, sources={"b": Source(commit=slow)}))
        while not (ports := [path for path in tmp_path.glob("state/checkouts/*/b/port") if path.read_text()]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        with socket.create_server(("127.0.0.1", port := int(ports[0].read_text()))):
            ports[0].with_name("go").touch()
            with pytest.raises(SandboxError, match=f"somebody listens on port {port}, which 'b' was to have"):
                await creating
        assert len(checkouts(tmp_path)) == 1
        box = await driver.create("x", ttl_s=60, sources={"b": Source(commit=good)})
        assert await word(box.urls["b"]) == "b"


async def test_linked_folders_come_from_the_work_tree(sample: Sample, tmp_path: Path) -> None:
    app = "import pathlib, runpy\nassert pathlib.Path('deps/lib.txt').read_text() == 'untracked'\n"
    plain = (sample.repo / "b/app.py").read_text()
    base = commit(sample, {"b/app.py": app + plain, ".gitignore": "deps\n"})
    (sample.repo / "b/deps").mkdir()
    (sample.repo / "b/deps/lib.txt").write_text("untracked")
    async with upped(sample, tmp_path / "state", system_of(link=("b/deps",)), base) as driver:
        baseline = await driver.baseline()
        assert baseline is not None
        assert await word(baseline.urls["b"]) == "b"
    assert (sample.repo / "b/deps/lib.txt").read_text() == "untracked"


@pytest.mark.parametrize("way", ["pth", "finder", "workspace"])
async def test_no_fork_runs_code_of_the_work_tree_by_a_linked_folder(sample: Sample, tmp_path: Path, way: str) -> None:
    base = commit(sample, {".gitignore": ".venv\nnode_modules\n", "code/words/__init__.py": "WORD = 'b'\n"})
    site, modules = sample.repo / ".venv/lib/python3.11/site-packages", sample.repo / "node_modules"
    site.mkdir(parents=True)
    (modules / "@us").mkdir(parents=True)
    (modules / "@us/inside").symlink_to("../.store")
    (site / "other.pth").write_text(f"{tmp_path}\nimport sys\n{site}/more\n")
    system = system_of(link=(".venv", "node_modules"), confine=False)
    async with upped(sample, tmp_path / "state", system, base) as driver:
        await driver.create("x", ttl_s=60)
        await driver.fork("x", {"b": Source(commit=base)})
        if way == "pth":
            (site / "__editable__.words.pth").write_text(f"{sample.repo}/code\n")
        elif way == "finder":
            (site / "__editable___words_finder.py").write_text(f"MAPPING = {{'words': '{sample.repo}/code/words'}}\n")
        else:
            (modules / "@us/words").symlink_to("../../code/words")
        await driver.create("y", ttl_s=60)
        with pytest.raises(SandboxError, match=r"would run code of the work tree, to which .*words"):
            await driver.fork("y", {"b": Source(commit=base)})
        assert len(checkouts(tmp_path)) == 2


async def test_a_missing_link_is_named(sample: Sample, tmp_path: Path) -> None:
    with pytest.raises(BaselineError, match=r"'b' cannot be started: link 'node_modules' .* does not exist") as caught:
        async with upped(sample, tmp_path / "state", system_of(link=("node_modules",))):
            pass
    assert "install the dependencies" in caught.value.hint


async def test_a_link_never_covers_what_the_commit_has(sample: Sample, tmp_path: Path) -> None:
    base = commit(sample, {"deps/word.txt": "tracked"})
    (sample.repo / "deps/word.txt").write_text("of the work tree")
    async with upped(sample, tmp_path / "state", system_of(link=("deps",)), base) as driver:
        assert driver is not None
        (checkout,) = checkouts(tmp_path)
        assert (checkout / "deps/word.txt").read_text() == "tracked"


async def test_the_work_tree_is_not_what_runs(sample: Sample, tmp_path: Path) -> None:
    (sample.repo / "b/word.txt").write_text("uncommitted")
    async with upped(sample, tmp_path / "state", system_of()) as driver:
        baseline = await driver.baseline()
        assert baseline is not None
        assert await word(baseline.urls["b"]) == "b"


async def test_a_folder_runs_as_it_stands(sample: Sample, tmp_path: Path) -> None:
    (sample.repo / "b/word.txt").write_text("by hand")
    async with upped(sample, tmp_path / "state", system_of()) as driver:
        await driver.create("x", ttl_s=60)
        box = await driver.fork("x", {"b": Source(folder=sample.repo)})
        assert await word(box.urls["b"]) == "by hand"
        assert box.forks["b"].commit is None
        with pytest.raises(SandboxError, match="is no folder"):
            await driver.fork("x", {"b": Source(folder=tmp_path / "missing")})


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"command": ("no-such-program", "x")}, "the command 'no-such-program' of 'b' was not found", "PATH="),
        ({"command": ("./word.txt",)}, "cannot be executed", "executable"),
        ({"cwd": "gone"}, "the folder 'gone' of 'b' does not exist", "cwd"),
        (
            {"ready": Ready(kind="http", target="/nope/", timeout_s=0.3), "command": ("sleep", "60")},
            "'b' was not ready within 0.3 s: no answer to its probe, GET /nope/ on port",
            "$PORT",
        ),
        ({"ready": Ready(kind="log", target="never said", timeout_s=0.5)}, "a log line that matches", "$PORT"),
    ],
)
async def test_a_start_that_fails_names_the_way_out(
    changes: dict[str, Any], message: str, hint: str, sample: Sample, tmp_path: Path
) -> None:
    with pytest.raises(BaselineError) as caught:
        async with upped(sample, tmp_path / "state", system_of(**changes)):
            pass
    assert message in caught.value.message
    assert hint in caught.value.hint


@pytest.mark.parametrize("ready", [Ready(kind="tcp"), Ready(kind="log", target="^starting b$")])
async def test_other_probes(ready: Ready, sample: Sample, tmp_path: Path) -> None:
    async with upped(sample, tmp_path / "state", system_of(ready=ready)) as driver:
        baseline = await driver.baseline()
        assert baseline is not None
        assert baseline.healthy


async def test_services_get_no_secrets_and_no_pythonpath(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ANTHROPIC_API_KEY", "AWS_SECRET_ACCESS_KEY", "GITHUB_TOKEN", "PYTHONPATH"):
        monkeypatch.setenv(name, "secret")
    app = "import os\nprint('env', *sorted(os.environ))\n" + (sample.repo / "b/app.py").read_text()
    base = commit(sample, {"b/app.py": app})
    async with upped(sample, tmp_path / "state", system_of(env={"OWN": "${port}"}), base) as driver:
        (line,) = [line.text for line in await driver.logs("b", sandbox=None) if line.text.startswith("env")]
    names = line.split()
    assert {"PATH", "PORT", "OWN", "HOME"} <= set(names)
    assert not any("KEY" in name or "TOKEN" in name or name == "PYTHONPATH" for name in names)


async def test_a_service_that_runs_already_is_routed_to(sample: Sample, tmp_path: Path) -> None:
    async def answer(_: object) -> JSONResponse:
        return JSONResponse({"word": "outside"})

    app = Starlette(routes=[Route("/{path:path}", answer)])
    listener = socket.create_server(("127.0.0.1", 0))
    port = listener.getsockname()[1]
    server = uvicorn.Server(uvicorn.Config(app, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    system = system_of(command=(), url=f"http://localhost:{port}")
    try:
        async with upped(sample, tmp_path / "state", system) as driver:
            baseline = await driver.baseline()
            assert baseline is not None
            assert await word(baseline.urls["b"]) == "outside"
            assert baseline.services["b"].pid is None
            await driver.create("x", ttl_s=60)
            with pytest.raises(SandboxError, match="cannot be forked"):
                await driver.fork("x", {"b": Source(commit=sample.base)})
    finally:
        server.should_exit = True
        await serving


async def test_a_url_that_nobody_answers_is_named(sample: Sample, tmp_path: Path) -> None:
    system = system_of(command=(), url="http://127.0.0.1:1", ready=Ready(timeout_s=0.2))
    with pytest.raises(BaselineError, match=r"'b' does not answer at http://127\.0\.0\.1:1"):
        async with upped(sample, tmp_path / "state", system):
            pass


async def test_a_bare_repository_will_do(sample: Sample, tmp_path: Path) -> None:
    bare = tmp_path / "bare.git"
    git(tmp_path, "clone", "-q", "--bare", str(sample.repo), str(bare))
    async with LocalDriver(bare, tmp_path / "state") as driver:
        baseline = await driver.up(system_of(), "main")
        assert baseline.version == sample.slow


async def test_a_project_may_lie_below_the_root_of_its_repository(sample: Sample, tmp_path: Path) -> None:
    base = commit(sample, {"project/b/app.py": (sample.repo / "b/app.py").read_text(), "project/b/word.txt": "below"})
    async with LocalDriver(sample.repo / "project", tmp_path / "state") as driver:
        baseline = await driver.up(system_of(), base)
        assert await word(baseline.urls["b"]) == "below"


async def test_what_is_no_repository_and_no_commit_is_named(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "plain").mkdir()
    with pytest.raises(CheckoutError, match="is not a git repository"):
        async with LocalDriver(tmp_path / "plain", tmp_path / "state"):
            pass
    async with LocalDriver(sample.repo, tmp_path / "state") as driver:
        with pytest.raises(CheckoutError, match="'nowhere' is no commit of"):
            await driver.up(system_of(), "nowhere")


async def test_a_state_folder_that_cannot_be_made_is_named(sample: Sample, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot be used"):
        async with LocalDriver(sample.repo, tmp_path / "file" / "state"):
            pass


async def test_no_code_of_the_repository_runs_while_checking_out(sample: Sample, tmp_path: Path) -> None:
    trap = tmp_path / "sprung"
    base = commit(sample, {".gitattributes": "*.txt filter=trap\n"})
    git(sample.repo, "config", "filter.trap.smudge", f"touch {trap}; cat")
    git(sample.repo, "config", "core.fsmonitor", f"touch {trap}")
    hook = sample.repo / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {trap}\n")
    hook.chmod(0o755)
    async with upped(sample, tmp_path / "state", system_of(), base):
        assert not trap.exists()


async def test_a_tcp_service_cannot_be_forked(sample: Sample, tmp_path: Path) -> None:
    async with upped(sample, tmp_path / "state", system_of(protocol="tcp")) as driver:
        baseline = await driver.baseline()
        assert baseline is not None
        assert baseline.urls["b"].startswith("tcp://")
        box = await driver.create("x", ttl_s=60)
        assert box.urls == {}
        with pytest.raises(SandboxError, match="would never be reached"):
            await driver.fork("x", {"b": Source(commit=sample.changed)})


async def test_what_is_built_and_what_runs_elsewhere_are_told_apart(sample: Sample, tmp_path: Path) -> None:
    go = tmp_path / "go"
    system = system_of(build=f"while [ ! -e {go} ]; do sleep 0.05; done")
    with socket.create_server(("127.0.0.1", 0)) as elsewhere:
        outside = Service(name="out", url=f"tcp://127.0.0.1:{elsewhere.getsockname()[1]}", protocol="tcp")
        system = replace(system, services={**system.services, "out": outside})
        async with LocalDriver(sample.repo, tmp_path / "state") as driver:
            coming = asyncio.create_task(driver.up(system, sample.base))
            seen: dict[str, list[str]] = {"b": [], "out": []}
            while not coming.done():
                for start in await driver.starts():
                    if start.state not in seen[start.service]:
                        seen[start.service].append(start.state)
                if seen["out"][-1:] == ["ready"]:
                    go.touch()
                await asyncio.sleep(0.005)
            await coming
            assert seen["b"][:2] == ["building", "starting"]
            assert seen["out"] == ["awaited", "ready"]
            assert await driver.starts() == ()


async def test_a_sandbox_asked_for_before_the_baseline_went_down_is_not_started_after_it(
    sample: Sample, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, asked, go = tmp_path / "bin" / "git", tmp_path / "asked", tmp_path / "go"
    async with upped(sample, tmp_path / "state", system_of()) as driver:
        slow.parent.mkdir()
        slow.write_text(
            f'#!/bin/sh\n: >"{asked}"\nwhile [ ! -e "{go}" ]; do sleep 0.02; done\nexec {shutil.which("git")} "$@"\n'
        )
        slow.chmod(0o755)
        monkeypatch.setenv("PATH", f"{slow.parent}:{os.environ['PATH']}")
        creating = asyncio.create_task(driver.create("late", ttl_s=60, sources={"b": Source(commit="HEAD")}))
        while not asked.exists():  # noqa: ASYNC110 - the other one is another process
            await asyncio.sleep(0.02)
        down = asyncio.create_task(driver.down())
        while await driver.baseline() is not None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        go.touch()
        await down
        with pytest.raises(SandboxGone, match="'late' is gone: the baseline was taken down"):
            await creating
        assert checkouts(tmp_path) == []


async def test_no_key_is_made_for_a_baseline_that_went_down(sample: Sample, tmp_path: Path) -> None:
    async with upped(sample, tmp_path / "state", system_of()) as driver:
        assert driver._up is not None
        envoy = psutil.Process(driver._up[0].routes.router.pid)
        envoy.suspend()
        # More than there are keys in stock, so that one of them waits for its key.
        creating = [asyncio.create_task(driver.create(f"x{number}", ttl_s=60)) for number in range(6)]
        await asyncio.sleep(0)
        down = asyncio.create_task(driver.down())
        while await driver.baseline() is not None:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0)
        envoy.resume()
        await asyncio.gather(down, *creating, return_exceptions=True)
        assert isinstance(creating[-1].exception(), SandboxGone)
        assert "keys in stock" not in {task.get_name() for task in asyncio.all_tasks()}


async def test_a_lease_that_ended_takes_no_later_baseline_along(sample: Sample, tmp_path: Path) -> None:
    now = 1000.0
    async with LocalDriver(sample.repo, tmp_path / "state", clock=lambda: now) as driver:
        baseline = await driver.up(system_of(), sample.base, lease_s=100)
        service = psutil.Process(baseline.services["b"].pid)
        service.suspend()
        holding = asyncio.create_task(driver.up(system_of(), sample.base, lease_s=1))
        await asyncio.sleep(0)
        now = 1100.0
        waiting = [
            asyncio.create_task(work)
            for work in (driver.reap(), driver.up(system_of(), sample.base, lease_s=100), driver.reap())
        ]
        await asyncio.sleep(0)
        assert not holding.done()
        service.resume()
        await asyncio.gather(holding, *waiting)
        later = await driver.baseline()
        assert later is not None
        assert later.lease_ends == 1200


async def test_leases_follow_the_drivers_clock(sample: Sample, tmp_path: Path) -> None:
    now = 1000.0
    async with LocalDriver(sample.repo, tmp_path / "state", clock=lambda: now) as driver:
        baseline = await driver.up(system_of(), sample.base, lease_s=100)
        assert baseline.lease_ends == 1100
        await driver.create("x", ttl_s=10)
        now = 1009.0
        assert (await driver.renew("x", ttl_s=10)).lease_ends == 1019
        now = 1019.0
        with pytest.raises(SandboxGone, match="its lease ended"):
            await driver.get("x")
        await driver.hold(lease_s=100)
        assert (await driver.create("x", ttl_s=10)).lease_ends == 1029
        now = 1119.0
        await driver.reap()
        assert await driver.baseline() is None
        with pytest.raises(SandboxGone, match="the baseline's lease ended"):
            await driver.get("x")


async def test_a_dry_run_of_gc_names_what_gc_removes_and_removes_nothing(sample: Sample, tmp_path: Path) -> None:
    now = 1000.0
    async with LocalDriver(sample.repo, tmp_path / "state", clock=lambda: now) as driver:
        await driver.up(system_of(), sample.base, lease_s=100)
        await driver.create("over", ttl_s=10)
        await driver.create("lives", ttl_s=20)
        assert await driver.gc() == ()
        stray = tmp_path / "state" / "checkouts" / "stray"
        stray.mkdir()
        now = 1010.0
        named = await driver.gc(dry_run=True)
        now = 1009.0  # before the driver itself sees that the lease has ended
        assert named == ("over", str(stray))
        assert stray.is_dir()
        assert [box.name for box in await driver.list()] == ["lives", "over"]
        now = 1010.0
        assert await driver.gc() == named
        assert not stray.exists()
        now = 1100.0
        named = await driver.gc(dry_run=True)
        now = 1010.0
        assert named == ("baseline",)
        assert await driver.baseline() is not None


async def test_who_brings_it_up_to_stay_wins(sample: Sample, tmp_path: Path) -> None:
    async with LocalDriver(sample.repo, tmp_path / "state", clock=lambda: 0.0) as driver:
        system = system_of()
        assert (await driver.up(system, sample.base, lease_s=10)).lease_ends == 10
        assert (await driver.up(system, sample.base, lease_s=5)).lease_ends == 10
        assert (await driver.up(system, sample.base)).lease_ends is None
        assert (await driver.up(system, sample.base, lease_s=5)).lease_ends is None
        with pytest.raises(BaselineError, match=r"another system: spurline\.yaml has changed"):
            await driver.up(system_of(env={"X": "1"}), sample.base)
