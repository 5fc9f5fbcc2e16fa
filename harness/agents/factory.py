"""An agent out of the settings. Which kind it is makes no difference to anybody else."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Final

from graphs.ports import Agent, Claim, Journal, unclaimed
from harness.agents.meter import Meter
from harness.agents.notes import Notes
from harness.settings import AgentSettings
from sandbox.driver import Driver

if TYPE_CHECKING:
    from harness.agents.anthropic.agent import Diagnostics

REHEARSAL_KEY: Final = "rehearsal"
"""The API key that a rehearsal server is given: any will do, and none of the user's is sent to it."""


async def ensure_model(settings: AgentSettings) -> None:
    """ModelError where no agent with these settings could ever call its model: asked before anything is started."""
    if settings.kind != "rehearsal":
        from harness.agents.anthropic.account import ensure_account

        await ensure_account(settings.model)


def build_agent(
    settings: AgentSettings,
    *,
    driver: Driver,
    meter: Meter,
    notes: Notes,
    journal: Journal,
    transcripts: Path,
    repo_root: Path,
    state: Path,
    entry: str,
    diagnostics: Diagnostics,
    readable: Sequence[Path] = (),
    base_url: str | None = None,
    api_key: str | None = None,
    claim: Claim = unclaimed,
) -> AbstractAsyncContextManager[Agent]:
    """The agent; it works as long as it is entered. Raises ModelError where its client cannot be set up.

    `state` is `.spurline/`, hidden from the agent's commands; `readable` is what of the repository they may read beside
    their worktree (linked folders). `entry` is the service that is asked when none is named. A rehearsal needs its
    server's `base_url`."""
    # The SDK takes half a second to import: only who runs agents pays for it.
    from harness.agents.anthropic.agent import AnthropicAgent
    from harness.agents.anthropic.client import ModelClient
    from harness.agents.anthropic.shell import Grounds

    if settings.kind == "rehearsal":
        if base_url is None:
            raise ValueError("a rehearsal needs the base URL of its server")
        api_key = REHEARSAL_KEY
    client = ModelClient(
        model=settings.model, max_tokens=settings.max_tokens, meter=meter, base_url=base_url, api_key=api_key
    )
    return AnthropicAgent(
        client,
        meter=meter,
        notes=notes,
        claim=claim,
        driver=driver,
        journal=journal,
        transcripts=transcripts,
        grounds=Grounds(repo_root, state, tuple(readable)),
        entry=entry,
        turns=settings.turns,
        diagnostics=diagnostics,
    )
