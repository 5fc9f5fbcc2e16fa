"""Takes the picture of the screen: on a real `spurline demo` with sixty agents, in a real terminal (tmux), as SVG.

python docs/pictures/take_tui.py        # needs tmux; writes docs/pictures/tui.svg
"""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.text import Text

SPURLINE = Path(sys.executable).with_name("spurline")
SESSION = "spurline-screen"
COLUMNS, LINES = 118, 32
AGENTS = 60
_ENDED = 20
"""A picture is worth taking when so many tickets have ended, and not all."""


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        shop = Path(folder) / "shop"
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        demo = subprocess.Popen([SPURLINE, "demo", "--agents", str(AGENTS), "--dir", shop], **quiet)
        try:
            while not (shop / ".spurline" / "spurline.db").exists():
                time.sleep(1)
            time.sleep(5)
            picture(watched(shop))
        finally:
            demo.terminate()
            demo.wait()


def watched(shop: Path) -> str:
    """The screen on the run, with its colours."""
    size = ["-x", str(COLUMNS), "-y", str(LINES)]
    argv = ["env", "COLORTERM=truecolor", "LC_ALL=C.UTF-8", str(SPURLINE), "-C", str(shop), "tui"]
    subprocess.run(["tmux", "new-session", "-d", "-s", SESSION, *size, *argv], check=True)
    try:
        while True:
            time.sleep(0.5)
            screen = subprocess.run(
                ["tmux", "capture-pane", "-e", "-p", "-t", SESSION], check=True, capture_output=True, text=True
            ).stdout
            ended = re.search(r"(\d+)/\d+ ended", screen)
            if ended is not None and int(ended[1]) >= _ENDED:
                return screen
    finally:
        subprocess.run(["tmux", "kill-session", "-t", SESSION], check=False)


def picture(screen: str) -> None:
    console = Console(record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(Text.from_ansi(screen.rstrip("\n")), no_wrap=True, overflow="crop")
    console.save_svg(str(Path(__file__).with_name("tui.svg")), title="spurline tui")


if __name__ == "__main__":
    main()
