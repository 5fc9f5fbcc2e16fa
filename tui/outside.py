"""Out of the screen and back: a browser on the preview, a shell or an editor in the worktree, the clipboard.

The shell and the editor are the user's own, with the environment that the screen was started with and nothing added to
it. They are not confined, and what lies in a worktree an agent wrote: that is said before they begin.
"""

from __future__ import annotations

import asyncio
import os
import shlex
import signal
import subprocess
import sys
import webbrowser
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import Any, Final, Literal

from textual.app import App, SuspendNotSupported
from textual.binding import Binding

from tasks.errors import SpurlineError
from tasks.text import one_line
from tui.clipboard import Copy
from tui.feed import Feed, Links
from tui.texts import wrong

Way = Literal["preview", "shell", "editor", "copy"]

WAYS: Final = [
    Binding("o", "app.outside('preview')", "Preview in a browser", show=False, id="outside.preview"),
    Binding("S", "app.outside('shell')", "Shell in the worktree", show=False, id="outside.shell"),
    Binding("e", "app.outside('editor')", "Editor in the worktree", show=False, id="outside.editor"),
    Binding("y", "app.outside('copy')", "Copy", show=False, id="outside.copy"),
]
"""The ways out, on every screen on which an agent is looked at."""
_IN_TERMINAL: Final = frozenset({"www-browser", "links", "elinks", "lynx", "w3m"})
"""Browsers that would take the terminal from the screen."""
INTERRUPTED: Final = 130
"""The exit code of who was terminated."""


async def leave(app: App[Any], feed: Feed, ticket: str, way: Way) -> None:
    """Go one of `WAYS` for a ticket; what cannot be done is said, with what can be done instead."""
    try:
        links = await feed.links(ticket)
    except SpurlineError as error:
        _say(app, f"{error.message}\n{error.hint or ''}", "not done", severity="error")
        return
    # A boundary: what cannot be gone to is said, whatever is damaged.
    except Exception as error:
        _say(app, wrong(error), "not done", severity="error")
        return
    match way:
        case "preview":
            await _preview(app, links)
        case "copy":
            app.push_screen(Copy(links), lambda text: copied(app, text) if text else None)
        case _:
            _in_worktree(app, links, way)


def copied(app: App[Any], text: str) -> None:
    """Copy a text, and show it: not every terminal takes it."""
    app.copy_to_clipboard(text)
    _say(app, text, "copied, where the terminal allows it")


def shell(env: Mapping[str, str]) -> list[str]:
    """The user's own shell."""
    return [env.get("SHELL") or "/bin/sh"]


def editor(env: Mapping[str, str], files: Sequence[str]) -> list[str] | None:
    """The user's own editor on these files, else on the folder; None where no variable names one that can be read."""
    try:
        words = shlex.split(env.get("VISUAL") or env.get("EDITOR") or "")
    except ValueError:
        return None
    return [*words, *(files or ["."])] if words else None


def has_browser() -> bool:
    """Whether there is a browser that opens beside the screen."""
    try:
        found = webbrowser.get()
    except webbrowser.Error:
        return False
    return PurePath(getattr(found, "name", "")).name not in _IN_TERMINAL


async def _preview(app: App[Any], links: Links) -> None:
    url = links.preview
    if not url.startswith(("http://", "https://")):
        hint = "`submit: {keep_sandbox: true}` keeps those of verified tickets; `spurline sandbox create` makes one"
        _say(app, f"the sandbox of {links.ticket} does not live\n{hint}", "no preview", severity="warning")
    elif app.is_web:
        app.open_url(url)
    elif await asyncio.to_thread(has_browser):
        _say(app, url, "opened in a browser")
        await asyncio.to_thread(_browse, url)
    else:
        app.copy_to_clipboard(url)
        _say(app, f"there is no browser here; the link is copied, where the terminal allows it\n{url}", "preview")


def _browse(url: str) -> None:
    """Open the URL by a process of its own: what a browser says must not be said on this screen."""
    argv, quiet = (sys.executable, "-I", "-m", "webbrowser", url), subprocess.DEVNULL
    subprocess.run(argv, stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, check=False)


def _in_worktree(app: App[Any], links: Links, way: Literal["shell", "editor"]) -> None:
    if not links.worktree:
        how = f"$ {links.restore}" if links.restore else "nothing was committed"
        _say(app, f"the worktree of {links.ticket} is gone, its branch stays\n{how}", "no worktree", severity="warning")
        return
    argv = shell(os.environ) if way == "shell" else editor(os.environ, links.changed)
    line = f"cd {shlex.quote(links.worktree)}"
    if argv is None:
        _say(app, f"set VISUAL or EDITOR to name an editor\n$ {line}", "no editor", severity="warning")
        return
    try:
        with app.suspend(), _signals_are_theirs():
            print(f"{_notice(links, way)}\n$ {one_line(line, 1_000)} && {one_line(shlex.join(argv))}", flush=True)  # noqa: T201
            code = subprocess.run(argv, cwd=links.worktree, check=False).returncode
    except SuspendNotSupported:
        app.copy_to_clipboard(line)
        _say(app, f"a {way} needs a terminal; this is copied, where the browser allows it\n$ {line}", f"no {way}")
    except OSError as error:
        _say(app, f"{argv[0]!r} cannot be started: {error.strerror}", "not done", severity="error")
    else:
        if code:
            _say(app, f"it ended with {code}\n$ {line} && {shlex.join(argv)}", way, severity="warning")


def _notice(links: Links, way: str) -> str:
    return (
        f"{one_line(links.ticket)}: your own {way}, not confined, in the agent's worktree. What lies there the agent "
        f"wrote,\nits `.git` too. The screen comes back when it ends; the run goes on meanwhile."
    )


@contextmanager
def _signals_are_theirs() -> Iterator[None]:
    """Ctrl-C is for what runs in the terminal; what would end the screen ends it afterwards. Where the terminal itself
    is gone there is no screen to come back to."""
    late: list[int] = []
    # While asyncio does not hear of signals, these handlers are asked.
    wakeup = signal.set_wakeup_fd(-1)
    handlers: dict[signal.Signals, Callable[[int, object], None]] = {
        signal.SIGTERM: lambda number, _: late.append(number),
        signal.SIGHUP: lambda *_: os._exit(INTERRUPTED),
        signal.SIGINT: lambda *_: None,
        signal.SIGQUIT: lambda *_: None,
    }
    # What was ignored from the start stays so.
    heeded = [one for one in handlers if signal.getsignal(one) is not signal.SIG_IGN]
    before = {one: signal.signal(one, handlers[one]) for one in heeded}
    try:
        yield
    finally:
        for one, handler in before.items():
            signal.signal(one, handler)
        signal.set_wakeup_fd(wakeup)
        for number in late:
            os.kill(os.getpid(), number)


def _say(
    app: App[Any], text: str, title: str, *, severity: Literal["information", "warning", "error"] = "information"
) -> None:
    lines = "\n".join(one_line(line, 400) for line in text.strip().split("\n"))
    app.notify(lines, title=title, severity=severity, markup=False, timeout=15)
