"""Documents by id: verdicts, messages to agents, results of the baseline. Canonical JSON, never changed."""

from __future__ import annotations

import hashlib
import json
import time
from typing import Any

from harness.store.database import Database
from harness.store.tables import BaselineResultRow, MessageRow, VerdictRow
from harness.store.upsert import keep, replace
from tasks.errors import StoreError


def sorted_json(document: Any) -> str:
    """JSON with sorted keys, no spaces, no NaN: equal documents are equal bytes."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


class Verdicts:
    """Verdict documents by the digest of what they say."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def save(self, run: str, ticket: str, document: dict[str, Any]) -> str:
        """The document's id: the beginning of its sha256. Saving the same document again is one document."""
        text = sorted_json(document)
        name = hashlib.sha256(f"{run}\0{ticket}\0{text}".encode()).hexdigest()[:20]
        row = VerdictRow(
            id=name, run=run, ticket=ticket, at=time.time(), conclusion=str(document["conclusion"]), document=text
        )
        await self._database.write(lambda session: keep(session, row))
        return name

    async def load(self, name: str) -> dict[str, Any]:
        """The document. StoreError where there is none."""
        row = await self._database.read(lambda session: session.get(VerdictRow, name))
        if row is None:
            raise StoreError(f"there is no verdict {name!r}")
        document: dict[str, Any] = json.loads(row.document)
        return document


class Messages:
    """What the loop says to agents; implements graphs.ports.Messages."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def keep(self, run: str, ticket: str, text: str) -> str:
        name = hashlib.sha256(f"{run}\0{ticket}\0{text}".encode()).hexdigest()[:20]
        row = MessageRow(id=name, run=run, ticket=ticket, at=time.time(), text=text)
        await self._database.write(lambda session: keep(session, row))
        return name

    async def text(self, name: str) -> str:
        row = await self._database.read(lambda session: session.get(MessageRow, name))
        if row is None:
            raise StoreError(f"there is no message {name!r}")
        return row.text


class BaselineResults:
    """Results of checks on the untouched baseline, one a version and check."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, version: str, digest: str) -> dict[str, Any] | None:
        row = await self._database.read(lambda session: session.get(BaselineResultRow, (version, digest)))
        return None if row is None else json.loads(row.document)

    async def put(self, version: str, digest: str, document: dict[str, Any]) -> None:
        row = BaselineResultRow(version=version, digest=digest, at=time.time(), document=sorted_json(document))
        await self._database.write(lambda session: replace(session, row))
