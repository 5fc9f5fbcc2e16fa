"""A wire between a client and a PostgreSQL that a test can cut in the middle of a commit."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Literal

Cut = Literal["before", "after", "late"]
"""Where the wire breaks: before the COMMIT reaches the server, after it but before the answer, or so that the client
is cut off first and the server gets the COMMIT `LATE_S` later."""

LATE_S: Final = 0.7


class Wire:
    """Passes bytes both ways until `cut` is set; then the next COMMIT meets it, once."""

    def __init__(self, port: int) -> None:
        self.port, self.cuts = 0, 0
        self.cut: Cut | None = None
        self._server_port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._open: list[socket.socket] = [self._listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        for one in self._open:
            _shut(one)

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                server = socket.create_connection(("127.0.0.1", self._server_port))
                self._open += [client, server]
                threading.Thread(target=self._up, args=(client, server), daemon=True).start()
                threading.Thread(target=_pass, args=(server, client), daemon=True).start()

    def _up(self, client: socket.socket, server: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while data := client.recv(65_536):
                if self.cut is not None and b"COMMIT" in data:
                    self._break(client, server, data)
                    return
                server.sendall(data)
        _shut(server)

    def _break(self, client: socket.socket, server: socket.socket, data: bytes) -> None:
        where, self.cut = self.cut, None
        self.cuts += 1
        # What the client has sent is gone with its connection; the server's end stays open as long as it takes.
        _shut(client)
        if where == "late":
            threading.Event().wait(LATE_S)
        if where != "before":
            server.sendall(data)
        else:
            _shut(server)


@contextmanager
def wire_to(port: int) -> Iterator[Wire]:
    wire = Wire(port)
    try:
        yield wire
    finally:
        wire.close()


def _pass(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65_536):
            with contextlib.suppress(OSError):
                target.sendall(data)
    _shut(target)


def _shut(one: socket.socket) -> None:
    with contextlib.suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
    one.close()
