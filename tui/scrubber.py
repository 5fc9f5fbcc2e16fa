"""The line of a replay: where it is, how fast, and the whole of it as a bar."""

from __future__ import annotations

from rich.text import Text
from textual import events
from textual.message import Message
from textual.widgets import Static

from tasks.text import short_span
from tui.replay import Player
from tui.texts import clock

_WORDS = 50


class Scrubber(Static):
    """Shown while a run is played again. A click goes to that moment."""

    DEFAULT_CSS = "Scrubber { height: 1; padding: 0 1; background: $accent 20%; display: none; }"

    class Sought(Message):
        """Somebody pointed at this share of the whole."""

        def __init__(self, share: float) -> None:
            super().__init__()
            self.share = share

    def show(self, player: Player | None) -> None:
        """Draw it, or hide it where nothing is played."""
        self.display = player is not None
        if player is None:
            return
        width = max(0, self.size.width - _WORDS)
        done = round(player.share * width)
        after = short_span(player.moment - player.story.began)
        sign = "▶" if player.playing else "‖"
        text = Text(f"{sign} {clock(player.moment)} +{after:<5} ", no_wrap=True)
        text.append("━" * done, "bold").append("─" * (width - done), "dim")
        text.append(f" ×{player.speed:g}  space ←→ [ ] esc: live")
        self.update(text)

    def on_click(self, event: events.Click) -> None:
        width = max(1, self.size.width - _WORDS)
        if 0 <= (place := event.x - 19) <= width:
            self.post_message(self.Sought(place / width))
