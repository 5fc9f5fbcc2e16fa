"""A real browser without a window, driven through its debugging protocol: what a page is, shows and hears."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import httpx
from websockets.sync.client import ClientConnection, connect

from tests.processes import end, wait_for

PATIENCE_S: Final = 60.0
# What comes through sockets is kept as text: a terminal in a page is pixels.
_LISTEN: Final = """
window.heard = '';
const Plain = WebSocket;
window.WebSocket = class extends Plain {
  constructor(...words) {
    super(...words);
    this.addEventListener('message', (event) => {
      if (typeof event.data !== 'string') window.heard += new TextDecoder().decode(event.data);
    });
  }
};
"""


def installed() -> str | None:
    """The browser, where there is one."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


class Page:
    """One tab."""

    def __init__(self, socket: ClientConnection) -> None:
        self._socket, self._numbers = socket, itertools.count(1)

    def ask(self, method: str, **given: Any) -> dict[str, Any]:
        """One call of the protocol; its result."""
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": given}))
        while True:
            said = json.loads(self._socket.recv(timeout=PATIENCE_S))
            if said.get("id") == number:
                assert "error" not in said, said
                found: dict[str, Any] = said["result"]
                return found

    def value(self, script: str) -> Any:
        """What a script in the page comes to."""
        return self.ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def until(self, script: str) -> None:
        """Wait until a script in the page comes to something true."""
        deadline = time.monotonic() + PATIENCE_S
        while not self.value(script):
            assert time.monotonic() < deadline, f"never came to true: {script}; the page is at {self.value('location')}"
            time.sleep(0.05)

    def open(self, url: str) -> None:
        self.ask("Page.navigate", url=url)

    def key(self, key: str) -> None:
        """One key, by the character that it writes."""
        for kind in ("keyDown", "keyUp"):
            self.ask("Input.dispatchKeyEvent", type=kind, key=key, text=key if kind == "keyDown" else "")

    def picture(self) -> bytes:
        """What is seen, as PNG."""
        return base64.b64decode(self.ask("Page.captureScreenshot", format="png")["data"])


class Browser:
    def __init__(self, address: str) -> None:
        self._address = address

    @contextmanager
    def page(self) -> Iterator[Page]:
        """A new tab, which is listened in to."""
        made = httpx.put(f"{self._address}/json/new?about:blank", trust_env=False).json()
        with connect(made["webSocketDebuggerUrl"], max_size=None, compression=None, proxy=None) as socket:
            page = Page(socket)
            page.ask("Page.enable")
            # Each tab has the keyboard, whichever is in front.
            page.ask("Emulation.setFocusEmulationEnabled", enabled=True)
            page.ask("Page.addScriptToEvaluateOnNewDocument", source=_LISTEN)
            yield page


@contextmanager
def browser(program: str, folder: Path) -> Iterator[Browser]:
    """A browser with a profile of its own in `folder`."""
    argv = [program, "--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--no-first-run", "--disable-gpu"]
    argv += ["--enable-unsafe-swiftshader", "--remote-debugging-port=0", f"--user-data-dir={folder}"]
    with subprocess.Popen(
        [*argv, "--window-size=1200,700", "about:blank"], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        try:
            assert process.stderr is not None
            line = wait_for("DevTools listening on ", process.stderr)
            yield Browser("http://" + line.split("ws://")[1].split("/")[0])
        finally:
            end(process)
