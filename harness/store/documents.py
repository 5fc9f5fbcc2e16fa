"""Documents by id: verdicts, messages to agents, results of the baseline. Canonical JSON, never changed."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from sqlmodel import col, select

from harness.store.database import Database
from harness.store.tables import BaselineResultRow, MessageRow, VerdictRow
from harness.store.upsert import keep, replace
from tasks.errors import StoreError

_AT_ONCE: Final = 100


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

    async def load_all(self, names: Iterable[str]) -> AsyncIterator[tuple[str, dict[str, Any]]]:
        """Ids and documents of those that are there, a few at a time: together they may be large."""
        wanted = list(names)
        for first in range(0, len(wanted), _AT_ONCE):
            some = wanted[first : first + _AT_ONCE]
            query = select(VerdictRow.id, VerdictRow.document).where(col(VerdictRow.id).in_(some))
            for name, text in await self._database.read(lambda session, query=query: tuple(session.exec(query))):  # type: ignore[misc]  # mypy cannot infer a lambda with a default
                yield name, json.loads(text)


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
        query = select(MessageRow.text).where(MessageRow.id == name)
        text = await self._database.read(lambda session: session.exec(query).first())
        if text is None:
            raise StoreError(f"there is no message {name!r}")
        return text


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
