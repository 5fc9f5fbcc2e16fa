"""Text from outside (services, agents, tickets) made safe to print: no control sequences, no markup; and how a span
of time is said."""

from __future__ import annotations

import re

# ECMA-48 sequences: CSI (also in its one-byte form), strings such as OSC with their terminator, the rest of ESC.
# A string that is never ended goes as far as its line: text behind it must not get lost.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x9c|\x1b\\)?"
    r"|\x1b[ -/]*[0-~]?"
)
# What is left of C0 and C1 but \n and \t, the Unicode bidi controls with which a line can be made to read as another
# one, and halves of surrogate pairs, which no stream can encode.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def plain(text: str) -> str:
    """`text` without terminal control sequences; newlines and tabs stay, CR LF becomes LF."""
    return _CONTROLS.sub("", _SEQUENCES.sub("", text.replace("\r\n", "\n")))


def one_line(text: str, limit: int = 200) -> str:
    """`text` as one plain line of at most `limit` characters, cut with an ellipsis."""
    flat = " ".join(plain(text).split())
    return flat if len(flat) <= limit else flat[: limit - 1] + "…"


def capped(text: str, limit: int) -> str:
    """The head and the tail of `text`, `limit` characters of it in all, with what was left out counted between."""
    if len(text) <= limit:
        return text
    head, tail = limit // 3, limit - limit // 3
    return f"{text[:head]}\n… {len(text) - head - tail} characters left out …\n{text[len(text) - tail :]}"


def span(seconds: float) -> str:
    """A length of time in at most two units: `0.4 s`, `12 s`, `3 min 5 s`, `2 h 10 min`, `4 d 1 h`."""
    if seconds < 0:
        return "0 s"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = int(seconds)
    for size, name, lower_size, lower in ((86_400, "d", 3600, "h"), (3600, "h", 60, "min"), (60, "min", 1, "s")):
        if whole >= size:
            rest = whole % size // lower_size
            return f"{whole // size} {name} {rest} {lower}" if rest else f"{whole // size} {name}"
    return f"{whole} s"


def short_span(seconds: float) -> str:
    """A length of time in at most five cells: `45s`, `3m05`, `2h10`, `4d01`."""
    whole = max(0, int(seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02d}"
    if whole < 86_400:
        return f"{whole // 3600}h{whole % 3600 // 60:02d}"
    days = whole // 86_400
    return f"{days}d{whole % 86_400 // 3600:02d}" if days < 100 else f"{days}d"
