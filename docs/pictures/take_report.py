"""Takes the picture of a report: that of a real `spurline demo`, as a browser shows it.

python docs/pictures/take_report.py     # needs chromium; writes docs/pictures/report.png
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

SPURLINE = Path(sys.executable).with_name("spurline")
WIDTH, HEIGHT = 1100, 1570


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        shop, page = Path(folder) / "shop", Path(folder) / "report.html"
        subprocess.run([SPURLINE, "demo", "--dir", shop], check=True)
        subprocess.run([SPURLINE, "-C", shop, "runs", "report", "--output", page], check=True)
        picture = Path(__file__).with_name("report.png")
        browser = ["chromium", "--headless", "--no-sandbox", "--hide-scrollbars", f"--user-data-dir={folder}/browser"]
        browser += [f"--window-size={WIDTH},{HEIGHT}", f"--screenshot={picture}", page.as_uri()]
        subprocess.run(browser, check=True)


if __name__ == "__main__":
    main()
