"""Takes the README's picture: a real `spurline demo` in a real terminal (tmux), its screen as SVG.

python docs/pictures/take.py            # needs tmux; writes docs/pictures/demo.svg
"""

from __future__ import annotations

import io
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

SPURLINE = Path(sys.executable).with_name("spurline")
SESSION = "spurline-picture"
COLUMNS, LINES = 132, 50


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(
            ["tmux", "new-session", "-d", "-s", SESSION, "-x", str(COLUMNS), "-y", str(LINES), "-c", folder, "sh"],
            check=True,
        )
        try:
            keys("PS1='$ '; clear", "Enter")
            time.sleep(1)
            keys(f"PATH={SPURLINE.parent}:$PATH; clear; spurline demo", "Enter")
            screen = wait_for("verified · ", "unproven · ", "needs_human · ")
            # The first line names a temporary folder.
            picture(screen[screen.index("starting the baseline") :])
        finally:
            subprocess.run(["tmux", "kill-session", "-t", SESSION], check=False)


def keys(*what: str) -> None:
    subprocess.run(["tmux", "send-keys", "-t", SESSION, *what], check=True)


def wait_for(*ends: str, timeout_s: float = 900) -> str:
    """The screen, with its colours, as soon as the summary of the run stands on it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        time.sleep(1)
        screen = subprocess.run(
            ["tmux", "capture-pane", "-e", "-p", "-t", SESSION], check=True, capture_output=True, text=True
        ).stdout
        if any(end in screen for end in ends) and "look around" in screen:
            return screen
    raise TimeoutError("the demo did not end")


def picture(screen: str) -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(screen.rstrip("\n")), no_wrap=True, overflow="crop")
    console.save_svg(str(Path(__file__).with_name("demo.svg")), title="spurline demo")


if __name__ == "__main__":
    main()
