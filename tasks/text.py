"""Text from outside (services, agents, tickets) made safe to print: no control sequences, no markup."""

from __future__ import annotations

import re

# ECMA-48 sequences (CSI, OSC and friends with their terminators), then what is left of C0/C1 but \n and \t,
# and the Unicode bidi overrides with which a line can be made to read as another one.
_SEQUENCES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[\]PX^_].*?(?:\x07|\x1b\\|$)|\x1b[@-Z\\-_]?", re.DOTALL)
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]")


def plain(text: str) -> str:
    """`text` without terminal control sequences; newlines and tabs stay, CR LF becomes LF."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", text.replace("\r\n", "\n")))


def one_line(text: str, limit: int = 200) -> str:
    """`text` as one plain line of at most `limit` characters, cut with an ellipsis."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def capped(text: str, limit: int) -> str:
    """The head and the tail of `text`, `limit` characters in all, with what was left out counted between."""
    if len(text) <= limit:
        return text
    head, tail = limit // 3, limit - limit // 3
    return f"{text[:head]}\n… {len(text) - head - tail} characters left out …\n{text[-tail:]}"
