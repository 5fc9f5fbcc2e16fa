"""Templates, and the outbox that the mail relay empties."""

from __future__ import annotations

from chassis.database import Database, Row


class Outbox:
    def __init__(self, database: Database) -> None:
        self._database = database

    def template(self, name: str) -> str | None:
        row = self._database.one("SELECT text FROM templates WHERE name = ?", name)
        return row["text"] if row else None

    def template_names(self) -> list[str]:
        return [row["name"] for row in self._database.all("SELECT name FROM templates ORDER BY name")]

    def put(self, receiver: str, template: str, text: str) -> int:
        with self._database.transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO messages (receiver, template, text) VALUES (?, ?, ?)", (receiver, template, text)
            )
        return cursor.lastrowid or 0

    def sent_to(self, receiver: str) -> list[Row]:
        """The last hundred messages to a receiver, newest first."""
        return self._database.all(
            "SELECT id, template, text FROM messages WHERE receiver = ? ORDER BY id DESC LIMIT 100", receiver
        )
