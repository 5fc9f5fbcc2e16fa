"""Where checks are pointed at: URLs, and the environment that tells them to a command."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from sandbox.driver import Sandbox
from sandbox.keys import masked


@dataclass(frozen=True, slots=True)
class Target:
    """One sandbox, as checks see it: the keyed URL of each service."""

    entry: str
    urls: Mapping[str, str]
    key: str = field(repr=False)

    @classmethod
    def of(cls, sandbox: Sandbox, entry: str) -> Target:
        return cls(entry=entry, urls=dict(sandbox.urls), key=sandbox.key)

    def url(self, service: str | None) -> str:
        """The URL of a service, the entry's by default, without a slash at its end."""
        return self.urls[service or self.entry].rstrip("/")

    def environment(self) -> dict[str, str]:
        """`SPURLINE_URL`, `SPURLINE_URL_<SERVICE>`, `SPURLINE_ROUTING_KEY` and `SPURLINE_BAGGAGE`."""
        env = {f"SPURLINE_URL_{name.upper().replace('-', '_')}": self.url(name) for name in self.urls}
        env["SPURLINE_URL"] = self.url(None)
        env["SPURLINE_ROUTING_KEY"] = self.key
        env["SPURLINE_BAGGAGE"] = f"spurline-key={self.key}"
        return env

    def without_key(self, text: str) -> str:
        """`text` with the routing key cut to what may be shown."""
        return text.replace(self.key, masked(self.key))
