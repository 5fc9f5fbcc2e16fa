"""`spurline tui --serve`: who is let in, what a browser is shown, and what is left when it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import httpx
import psutil
import pytest
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import ClientConnection, connect
from websockets.typing import Origin

from tests.browser import browser, installed
from tests.conftest import commit_all, git
from tests.e2e.conftest import Spurline, environment
from tests.e2e.worker import SETTINGS, at_work
from tests.processes import end

MakeRepo = Callable[[Mapping[str, str]], Path]

PATIENCE_S = 60.0
SECRET = "sk-not-for-a-screen"


@dataclass(frozen=True)
class Serving:
    """A server that serves, and the URL that it printed."""

    process: subprocess.Popen[str]
    url: str

    @property
    def origin(self) -> str:
        return self.url.split("/?")[0]

    def entered(self) -> tuple[str, str]:
        """What a browser has once it went through the door: the page's path and the cookie."""
        answer = httpx.get(self.url, trust_env=False)
        assert answer.status_code == 303
        return answer.headers["location"], answer.headers["set-cookie"].split(";")[0]

    @contextmanager
    def screen(self, *, origin: str | None = None) -> Iterator[ClientConnection]:
        """A socket, as the page opens one."""
        path, cookie = self.entered()
        address = f"{self.origin.replace('http', 'ws')}{path}ws?width=100&height=24"
        with connect(
            address,
            origin=Origin(origin or self.origin),
            additional_headers={"Cookie": cookie},
            max_size=None,
            proxy=None,
        ) as found:
            yield found

    def children(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)


@pytest.fixture
def root(make_repo: MakeRepo) -> Path:
    return make_repo({"spurline.yaml": SETTINGS})


@contextmanager
def served(root: Path, script: Path) -> Iterator[Serving]:
    """A server of its own of a run that is worked on."""
    with (
        at_work(root),
        subprocess.Popen(
            [script, "tui", "--serve"],
            cwd=root,
            env={**environment(), "ANTHROPIC_API_KEY": SECRET},
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        ) as process,
    ):
        try:
            assert process.stdout is not None
            yield Serving(process, process.stdout.readline().strip())
        finally:
            end(process)


@pytest.fixture
def serving(root: Path, script: Path) -> Iterator[Serving]:
    """A server that the test may end, of a run that it may change."""
    with served(root, script) as found:
        yield found


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory, script: Path) -> Iterator[Serving]:
    root = tmp_path_factory.mktemp("lasting")
    (root / "spurline.yaml").write_text(SETTINGS)
    git(root, "init", "-q", "-b", "main")
    commit_all(root, "first")
    with served(root, script) as found:
        yield found


@pytest.fixture
def shared(lasting: Serving) -> Iterator[Serving]:
    """A server that outlives the test: it has no screens before and after, and goes on."""
    yield lasting
    gone(lasting.children())
    assert lasting.process.poll() is None


def shows(screen: ClientConnection, *words: str) -> None:
    """Wait until the screen's process has drawn all `words`."""
    deadline, drawn = time.monotonic() + PATIENCE_S, ""
    while not all(word in drawn for word in words):
        said = screen.recv(timeout=max(0.1, deadline - time.monotonic()))
        drawn += said.decode("utf-8", "replace") if isinstance(said, bytes) else ""


def says(screen: ClientConnection, *said: object) -> None:
    screen.send(json.dumps(said))


def closes(screen: ClientConnection) -> None:
    deadline = time.monotonic() + PATIENCE_S
    with suppress(ConnectionClosed):
        while time.monotonic() < deadline:
            screen.recv(timeout=PATIENCE_S)
        raise AssertionError("the socket stayed open")


def gone(processes: list[psutil.Process]) -> None:
    _, alive = psutil.wait_procs(processes, PATIENCE_S)
    assert not alive


def test_nobody_is_let_in_without_the_token(shared: Serving) -> None:
    path, cookie = shared.entered()
    below, wrong = f"{shared.origin}{path}", shared.url[:-1] + ("a" if shared.url[-1] != "a" else "b")
    with httpx.Client(trust_env=False) as http:
        refused = [shared.origin, wrong, below, f"{below}static/js/textual.js", f"{below}nothing", f"{below}ws"]
        for url in refused:
            assert http.get(url).status_code == 403, url
            assert http.get(url, headers={"Cookie": "spurline=guessed"}).status_code == 403, url
            assert http.post(url).status_code == 403, url
        # The token opens nothing but the door, the cookie nothing but what lies behind it.
        assert http.get(f"{below}?{urlsplit(shared.url).query}").status_code == 403
        assert http.get(shared.origin, headers={"Cookie": cookie}).status_code == 403
        let_in = {"Cookie": cookie}
        assert http.get(f"{below}static/js/textual.js", headers=let_in).status_code == 200
        assert http.get(f"{below}nothing", headers=let_in).status_code == 404
        page = http.get(below, headers=let_in)
    assert "textual-terminal" in page.text
    assert urlsplit(shared.url).query.split("=")[1] not in page.text
    assert "frame-ancestors 'none'" in page.headers["content-security-policy"]
    assert page.headers["referrer-policy"] == "no-referrer"
    assert not shared.children()


def test_the_cookie_goes_nowhere_else(shared: Serving) -> None:
    said = httpx.get(shared.url, trust_env=False).headers["set-cookie"]
    path, _ = shared.entered()
    assert {"HttpOnly", "SameSite=Strict", f"Path={path}"} <= set(said.split("; "))
    assert len(path) > 16


@pytest.mark.parametrize("host", ["evil.example", "evil.example:80", "127.0.0.1.evil.example", "[", ""])
def test_a_name_that_was_made_to_lead_here_is_no_name_of_it(shared: Serving, host: str) -> None:
    answer = httpx.get(shared.url, headers={"Host": host}, trust_env=False)
    assert answer.status_code == 421 if host else answer.status_code in (400, 421)


@pytest.mark.parametrize("origin", ["http://evil.example", "http://127.0.0.1:1", "null"])
def test_pages_of_others_open_no_socket(shared: Serving, origin: str) -> None:
    with pytest.raises(InvalidStatus) as refused, shared.screen(origin=origin):
        pass
    assert refused.value.response.status_code == 403
    assert not shared.children()


def test_several_browsers_at_once_each_with_its_own_keys(serving: Serving) -> None:
    with serving.screen() as one, serving.screen() as other:
        shows(one, "points", "which currency is meant?")
        shows(other, "points")
        assert len(serving.children()) == 2
        says(one, "resize", {"width": 60, "height": 12})
        says(one, "stdin", "jp")
        shows(one, "to be paused")
        # Both look at the same run.
        shows(other, "to be paused")
        says(one, "stdin", "q")
        closes(one)
        says(other, "ping", 7)
        while (said := other.recv(timeout=PATIENCE_S)) != '["pong", 7]':
            assert isinstance(said, bytes)
    gone(serving.children())
    assert serving.process.poll() is None


def test_rubbish_ends_the_socket_and_nothing_else(shared: Serving) -> None:
    for rubbish in ("{", "[]", '["stdin", 7]', '["resize", {"width": "wide"}]', '["deliver"]', "9" * 70_000):
        with shared.screen() as screen:
            shows(screen, "points")
            screen.send(rubbish)
            closes(screen)
        gone(shared.children())
    with shared.screen() as another:
        shows(another, "points")


def test_its_processes_are_given_no_more_than_they_need(shared: Serving) -> None:
    token = urlsplit(shared.url).query.split("=")[1]
    with shared.screen() as screen:
        shows(screen, "points")
        (child,) = shared.children()
        given = json.dumps([child.environ(), child.cmdline()])
    assert "ANTHROPIC_API_KEY" not in given
    assert SECRET not in given
    assert token not in given


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.chaos)])
def test_when_it_ends_no_process_and_no_port_is_left(serving: Serving, number: signal.Signals) -> None:
    with serving.screen() as one, serving.screen() as other:
        shows(one, "points")
        shows(other, "points")
        children = serving.children()
        serving.process.send_signal(number)
        closes(one)
        closes(other)
    assert serving.process.wait(PATIENCE_S) == 130
    gone(children)
    address = urlsplit(serving.origin)
    with socket.socket() as probe:
        assert probe.connect_ex((str(address.hostname), int(address.port or 0))) != 0


def test_killed_it_leaves_no_process_either(serving: Serving) -> None:
    with serving.screen() as screen:
        shows(screen, "points")
        children = serving.children()
        serving.process.kill()
        gone(children)


def test_what_cannot_be_served_is_said(spurline: Spurline, root: Path) -> None:
    none = spurline("tui", "--serve", cwd=root)
    assert (none.code, "there is no run 'last'" in none.err) == (2, True)
    for words in (["--port", "8080"], ["--host", "::1"], ["--serve", "--plain"]):
        refused = spurline("tui", *words, cwd=root)
        assert (refused.code, "--serve" in refused.err) == (2, True), words
    with at_work(root), socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        busy = spurline("tui", "--serve", "--port", str(port), cwd=root)
        assert (busy.code, f"nothing can listen at 127.0.0.1, port {port}" in busy.err) == (2, True)


def test_without_the_extra_it_says_what_to_install(root: Path) -> None:
    without = "import sys; sys.modules['aiohttp'] = None; from harness.cli.errors import guarded; "
    argv = [sys.executable, "-c", without + "sys.exit(guarded(sys.argv[1:]))", "tui", "--serve"]
    done = subprocess.run(argv, cwd=root, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "spurline[serve]" in done.stderr


def test_a_real_browser_shows_it_and_is_heard(serving: Serving, tmp_path: Path) -> None:
    program = installed()
    if program is None:
        pytest.skip("no browser is installed")
    with browser(program, tmp_path) as opened, opened.page() as page, opened.page() as other:
        page.open(serving.url)
        page.until("window.heard.includes('which currency is meant?')")
        other.open(serving.url)
        other.until("window.heard.includes('which currency is meant?')")
        assert "token" not in page.value("location.href")
        assert page.value("document.cookie") == ""
        for key in "jp":
            page.key(key)
        page.until("window.heard.includes('to be paused')")
        other.until("window.heard.includes('to be paused')")
        page.key("q")
        page.until("document.body.classList.contains('-closed')")
        page.value("document.querySelector('#closed a').click()")
        page.until("!document.body.classList.contains('-closed') && window.heard.includes('which currency is meant?')")
        if folder := os.environ.get("KEEP_PICTURES"):
            Path(folder, "browser.png").write_bytes(page.picture())
