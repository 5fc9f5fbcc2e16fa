"""`spurline tui --serve`: the screen of a run in browsers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from harness.cli.output import Output
from tasks.errors import UsageError

if TYPE_CHECKING:
    from harness.cli.place import Place

HOST: Final = "127.0.0.1"
_LOOK: Final = ("NO_COLOR", "TEXTUAL_THEME", "XDG_CONFIG_HOME")
_STORE: Final = ("SPURLINE_STORE", "PG")
"""How names of variables begin that say where the store is, and let it be opened."""


async def serve(place: Place, name: str, options: Sequence[str], out: Output, *, host: str, port: int) -> int:
    """Serve the screen until it is interrupted, with these options of `spurline tui`. Raises UsageError where it cannot
    be."""
    from harness.runtime import console_script
    from harness.runtime.feed import opened_feed

    try:
        from tui.serving import Door
    except ImportError as error:
        raise UsageError(
            f"the screen in a browser needs what is not installed: {error}",
            hint="install `spurline[serve]`, as in `uv tool install 'spurline[serve]'`",
        ) from None

    project = place.project()
    # What cannot be shown is said here, not in each browser; and `last` stays the run that it is now.
    async with opened_feed(project, name) as feed:
        run = feed.run
    argv = [console_script(), "--project", str(project.root), "tui", run, *options]
    async with Door(argv, handed_on(os.environ), host=host, port=port) as door:
        out.line(door.url)
        out.note(f"run {run} is shown there; whoever has this URL can do to it all that you can. Ctrl-C ends it")
        if not door.loopback:
            out.warning("it is no loopback: whoever can read the network in between sees the token")
        await asyncio.Event().wait()
    return 0


def handed_on(environ: Mapping[str, str]) -> dict[str, str]:
    """What the process of a browser's screen is given of the environment: neither the model's key nor anybody else's,
    but for the store's."""
    from sandbox.confinement import scrubbed

    more = {name: value for name, value in environ.items() if name in _LOOK or name.startswith(_STORE)}
    return {**scrubbed(environ), **more}
