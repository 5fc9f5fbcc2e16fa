"""`spurline keeper`: the process that holds the baseline and the sandboxes between commands.

Started by Spurline itself and not meant for people, hence hidden.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import single
from harness.cli.place import Place

app = single()


@app.command("keeper", hidden=True)
def keeper(project: Annotated[Path, typer.Option("--project", metavar="DIR")]) -> None:
    """Serve the local driver of one project until nothing runs any more."""
    from sandbox.local.keeper import serve

    found = Place(project).workshop()
    # It has its own way to stop on signals, which ends what it started: no `interrupts.complete` here.
    asyncio.run(serve(found.root, found.state / "local"))
