"""Runs one check against one target, whatever kind it is."""

from __future__ import annotations

import httpx

from harness.validation.bench import Benches, Item
from harness.validation.command import run_command
from harness.validation.http import http_client, run_http
from harness.validation.results import CheckResult
from harness.validation.targets import Target
from tasks.ticket import HttpCheck


class Examiner:
    """Holds the HTTP client of all checks; close it when done."""

    def __init__(self, benches: Benches) -> None:
        self._benches = benches
        self._client: httpx.AsyncClient | None = None

    async def examine(self, item: Item, target: Target, base: str) -> CheckResult:
        """Run the check once. A check that cannot run is a result; TamperedError where its bench was altered."""
        if isinstance(item.check, HttpCheck):
            if self._client is None:
                self._client = http_client()
            return await run_http(item.check, target, self._client)
        async with self._benches.bench(base) as bench:
            return await run_command(item.check, bench.folder, bench.scratch, target)

    async def aclose(self) -> None:
        if self._client is not None:
            await self._client.aclose()
            self._client = None
