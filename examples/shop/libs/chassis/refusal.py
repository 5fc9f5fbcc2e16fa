"""The one exception that ends a request with an error answer."""

from __future__ import annotations


class Refusal(Exception):
    """Ends the request at hand: an HTTP status, what is wrong, and where it helps some detail."""

    def __init__(self, status: int, error: str, detail: str = "") -> None:
        super().__init__(error)
        self.status, self.error, self.detail = status, error, detail
