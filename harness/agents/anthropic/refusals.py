"""What an error of the SDK means: a call that may be repeated, or a refusal that the user must do something about."""

from __future__ import annotations

from typing import Final

import anthropic
import httpx2

from harness.agents.anthropic.headers import retry_after_s
from harness.agents.meter import CallFailed, Trouble
from tasks.errors import ModelError

TRANSIENT_STATUS: Final = frozenset({408, 409, 429, *range(500, 600)})
_OVERLOADED: Final = (503, 529)
_TOO_LONG: Final = ("prompt is too long", "exceed context limit")


class TooLong(Exception):
    """The conversation does not fit into the model's context any more: a signal, the ticket's own and no fault."""


def trouble_of(error: BaseException) -> CallFailed | None:
    """`error` as a call that may be repeated; None when it is none."""
    if isinstance(error, anthropic.APIStatusError):
        # An error inside a stream has the status of the stream, which is 200: its type tells.
        trouble: Trouble = "failing"
        if error.status_code == 429 or error.type == "rate_limit_error":
            trouble = "rate_limited"
        elif error.status_code in _OVERLOADED or error.type == "overloaded_error":
            trouble = "overloaded"
        return CallFailed(trouble, _said(error), retry_after_s(error.response.headers))
    if isinstance(error, anthropic.APITimeoutError | httpx2.TimeoutException):
        return CallFailed("unreachable", "the API went silent")
    if isinstance(error, anthropic.APIConnectionError | httpx2.TransportError):
        cause = error.__cause__ or error
        return CallFailed("unreachable", f"the connection failed: {str(cause) or type(cause).__name__}")
    if isinstance(error, httpx2.HTTPError | anthropic.APIError | ValueError | RuntimeError):
        # The SDK reads the stream with the json module and its own order of events, and lets their errors out.
        return CallFailed("garbled", f"the answer cannot be read: {type(error).__name__}")
    return None


def permanent(error: anthropic.APIStatusError, model: str) -> Exception:
    """What to raise for a status that will be the same the next time."""
    status, said = error.status_code, _said(error)
    if status == 200:
        return trouble_of(error) or error
    if status == 413 or (status == 400 and any(words in said for words in _TOO_LONG)):
        return TooLong(said)
    hints = {
        401: "set ANTHROPIC_API_KEY to a valid key",
        403: "the key may not do this: check its workspace and its permissions",
        404: f"check agent.model in spurline.yaml (it says {model!r}) and ANTHROPIC_BASE_URL",
    }
    hint = hints.get(status, "this is how the API sees the request: look at its words above")
    poor = "credit balance" in said
    if poor:
        hint = "the account has no credit left"
    # A 403 can be what a gateway says to the words of one ticket.
    of_all = poor or status == 401 or (status == 404 and model in said)
    return ModelError(f"the model's API refused the call ({status}): {said}", hint=hint, transient=False, of_all=of_all)


def no_key(error: BaseException) -> ModelError | None:
    """What to raise where the SDK has no key to call with; None for any other error."""
    # It has no class of its own for this.
    if not (isinstance(error, TypeError) and "authentication" in str(error)):
        return None
    return ModelError("there is no key for the model's API", hint="set ANTHROPIC_API_KEY", transient=False, of_all=True)


def _said(error: anthropic.APIStatusError) -> str:
    return error.api_message or error.message
