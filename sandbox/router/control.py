"""The two Unix sockets by which we talk to Envoy: its admin interface, and a probe listener of our own.

The probe answers from the worker that serves requests, so what it says about the live table is true for them, and
what it writes into the records comes after everything that ended before.
"""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path
from typing import Any, Final

import httpx

from tasks.errors import SandboxError

_PATH_LIMIT_BYTES: Final = 100
"""Below the 104 (macOS) and 108 (Linux) bytes that the kernel has for the path of a socket."""
_TIMEOUT_S: Final = 10.0
FAILURES: Final = (httpx.TransportError,)
"""What a call raises while Envoy does not answer."""


class Sockets:
    """Where the two sockets live: in the router's folder, or in a private one of short name where that is too deep."""

    def __init__(self, folder: Path) -> None:
        short = len(bytes(folder / "admin.sock")) <= _PATH_LIMIT_BYTES
        self.own = None if short else Path(tempfile.mkdtemp(prefix="spurline-"))
        where = self.own or folder
        self.admin = where / "admin.sock"
        self.probe = where / "probe.sock"

    def clear(self) -> None:
        """Remove the socket files, so that the next Envoy can bind them."""
        self.admin.unlink(missing_ok=True)
        self.probe.unlink(missing_ok=True)

    def remove(self) -> None:
        self.clear()
        if self.own is not None:
            shutil.rmtree(self.own, ignore_errors=True)


class Control:
    """Calls to both sockets over kept-alive connections, from `open` to `aclose`; SandboxError before and after."""

    def __init__(self) -> None:
        self._clients: tuple[httpx.AsyncClient, httpx.AsyncClient] | None = None

    def open(self, sockets: Sockets) -> None:
        self._clients = _client(sockets.admin), _client(sockets.probe)

    async def aclose(self) -> None:
        clients, self._clients = self._clients or (), None
        for client in clients:
            await client.aclose()

    async def ready(self) -> bool:
        return (await self._admin.get("/ready")).status_code == 200

    async def listeners(self) -> frozenset[str]:
        """Names of all listeners that are bound."""
        answer: dict[str, Any] = (await self._admin.get("/listeners", params={"format": "json"})).json()
        return frozenset(status["name"] for status in answer.get("listener_statuses", ()))

    async def counters(self, expression: str) -> dict[str, int]:
        """Counters and gauges whose names match a regular expression."""
        answer = await self._admin.get("/stats", params={"format": "json", "filter": expression})
        return {stat["name"]: stat["value"] for stat in answer.json()["stats"] if "name" in stat}

    async def active(self, address: str) -> int:
        """Requests under way to one upstream, `ip:port`, over all clusters that know it."""
        answer = await self._admin.get("/clusters", params={"format": "json"})
        return sum(
            int(stat.get("value", 0))
            for cluster in answer.json().get("cluster_statuses", ())
            for host in cluster.get("host_statuses", ())
            if _shown(host["address"].get("socket_address", {})) == address
            for stat in host["stats"]
            if stat["name"] == "rq_active"
        )

    async def reopen_records(self) -> None:
        await self._admin.post("/reopen_logs")

    async def version(self) -> str:
        """The version of the table that the worker serves from."""
        return (await self._probe.get("/version")).text

    async def mark(self, mark: str) -> None:
        """Have the worker write `mark` into the records, behind all that ended before."""
        await self._probe.get(f"/mark/{mark}")

    @property
    def _admin(self) -> httpx.AsyncClient:
        return self._opened()[0]

    @property
    def _probe(self) -> httpx.AsyncClient:
        return self._opened()[1]

    def _opened(self) -> tuple[httpx.AsyncClient, httpx.AsyncClient]:
        if self._clients is None:
            raise SandboxError("the router does not run", hint="start it first")
        return self._clients


def _shown(address: dict[str, Any]) -> str:
    return f"{address.get('address')}:{address.get('port_value')}"


def _client(path: Path) -> httpx.AsyncClient:
    return httpx.AsyncClient(
        transport=httpx.AsyncHTTPTransport(uds=str(path), verify=False),
        base_url="http://envoy",
        timeout=_TIMEOUT_S,
        trust_env=False,
    )
