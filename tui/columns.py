"""The rows of the list, in as many cells as there are: texts, each with the name of its style."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from rich.cells import cell_len

from tasks.text import one_line, short_span
from tui.feed import Agent
from tui.grouping import Group
from tui.signs import doing, fitted, legend, sign, style

_NARROW: Final = 60
_WIDE: Final = 96
"""From here on the last verdict has room."""
_TICKET: Final = (8, 28)
_GROUP: Final = 400

Row = tuple[tuple[str, str], ...]
"""A row as texts and the names of their styles (empty: as the rest)."""


@dataclass(frozen=True, slots=True)
class Columns:
    """What stands where in a list so many cells wide."""

    width: int

    def head(self) -> str:
        """The names of the columns."""
        ticket, rest = self._widths()
        if not rest:
            return f"   {'ticket':<{ticket}} state"
        verdict = "verdict  " if self.width >= _WIDE else ""
        columns = f"{'state':<13}{'it':>3} {'time':>5} {'heard':>5} {'USD':>6} {verdict}doing"
        return f"   {'ticket':<{ticket}} {columns}"

    def agent(self, agent: Agent, now: float, *, marked: bool) -> Row:
        """An agent as it is now."""
        look = f"sign--{style(agent, now)}"
        ticket, rest = self._widths()
        since = short_span(now - agent.since) if agent.since else ""
        over = agent.state != "queued" and agent.ended > 0
        if over and agent.began:
            since = short_span(agent.ended - agent.began)
        mark = "▸" if marked else " "
        head = ((mark, ""), (f"{sign(agent, now)} ", look), (f"{fitted(agent.ticket, ticket)} ", ""))
        if not rest:
            return (*head, (fitted(agent.state, 11), look))
        heard = "" if over or agent.state == "queued" else short_span(now - agent.heard)
        cost = f"{agent.cost_usd:.2f}" if agent.cost_usd else ""
        nth = str(agent.iteration or "")
        return (
            *head,
            (fitted(agent.state, 13), look),
            (f"{nth:>3} {since:>5} ", ""),
            (f"{heard:>5} {cost:>6} {self._verdict(agent)}", "row--muted"),
            (fitted(doing(agent, now), rest), ""),
        )

    def group(self, group: Group, *, folded: bool, marked: int) -> Row:
        """The head of a group: what its agents have in common, how many they are, and in which states."""
        states = group.states()
        count = f" {len(group.agents)}" + (f"  {marked} marked" if marked else "")
        name = one_line(group.name, _GROUP)
        name = fitted(name, min(cell_len(name), max(8, self.width - 2 - len(count))))
        more = f"  {legend(states)}" if list(states) != [group.name] else ""
        return ((f"{'+' if folded else '-'} ", "row--head"), (name, "row--group"), (count, ""), (more, "row--muted"))

    def _widths(self) -> tuple[int, int]:
        """Cells for the ticket and for what is being done."""
        if self.width < _NARROW:
            return max(_TICKET[0], self.width - 15), 0
        ticket = max(_TICKET[0], min(_TICKET[1], self.width // 4))
        return ticket, self.width - ticket - (39 + 9 * (self.width >= _WIDE))

    def _verdict(self, agent: Agent) -> str:
        """The last verdict, where it says more than the state does."""
        if self.width < _WIDE:
            return ""
        return fitted(agent.verdict if agent.verdict != agent.state else "", 9)
