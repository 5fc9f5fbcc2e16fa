"""The services of a baseline on their way up, on stderr: a live list on a terminal, a plain log elsewhere."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final, Self

from harness.cli.output import Output
from harness.runtime.starting import StartLog, described
from sandbox.driver import Start
from tasks.text import plain

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.live import Live

_REFRESHES_PER_S: Final = 4
_STYLES: Final = {"ready": "green", "building": "yellow", "awaited": "yellow"}


class Starting:
    """A context manager around the wait; `feed` is a `harness.runtime.starting.Watcher`. What was last known stays."""

    def __init__(self, out: Output) -> None:
        self._out = out
        self._log = StartLog(out.note)
        self._starts: tuple[Start, ...] = ()
        self._live: Live | None = None

    def __enter__(self) -> Self:
        # JSON lines on the same terminal would be drawn over.
        if self._out.narrates_on_terminal and not self._out.json:
            from rich.live import Live

            self._live = Live(
                get_renderable=lambda: view(self._starts),
                console=self._out.console(error=True),
                refresh_per_second=_REFRESHES_PER_S,
                vertical_overflow="crop",
            )
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._live is not None:
            self._live.transient = not self._starts
            self._live.stop()
            self._live = None

    def feed(self, starts: Iterable[Start]) -> None:
        """Take in how far all services have got."""
        self._starts = tuple(starts)
        if self._live is None:
            self._log(self._starts)


def view(starts: Iterable[Start]) -> RenderableType:
    """The services as they are drawn, one a line."""
    from rich.console import Group
    from rich.text import Text

    shown = [(plain(start.service), start) for start in starts]
    width = max((len(name) for name, _ in shown), default=0)
    return Group(
        *(
            Text(f"  {name:<{width}}  {_words(start)}", _STYLES.get(start.state, ""), no_wrap=True, overflow="ellipsis")
            for name, start in shown
        )
    )


def _words(start: Start) -> str:
    if start.state == "ready" or start.took_s is None:
        return described(start)
    return f"{start.state} {start.took_s:.1f} s"
