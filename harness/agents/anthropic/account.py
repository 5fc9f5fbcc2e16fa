"""Whether the model's API takes calls of this account at all, asked before anything is started.

Only what is certain counts: that there is no key, or that it is refused. All else is for the calls themselves to find
out: the API may be out of reach for a moment, and not every gateway knows of models.
"""

from __future__ import annotations

from typing import Final

import anthropic

from harness.agents.anthropic.refusals import no_key, permanent

_LIMIT_S: Final = 10.0


async def ensure_account(model: str, *, base_url: str | None = None, api_key: str | None = None) -> None:
    """ModelError where every call would be refused. `base_url` and `api_key` win over ANTHROPIC_BASE_URL and
    ANTHROPIC_API_KEY."""
    async with anthropic.AsyncAnthropic(base_url=base_url, api_key=api_key, max_retries=0, timeout=_LIMIT_S) as sdk:
        try:
            await sdk.models.retrieve(model)
        except anthropic.AuthenticationError as error:
            raise permanent(error, model) from error
        except anthropic.AnthropicError:
            pass
        except TypeError as error:
            if (refusal := no_key(error)) is not None:
                raise refusal from error
            raise
