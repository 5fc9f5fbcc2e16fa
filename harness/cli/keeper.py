"""`spurline keeper`: the process that holds the baseline and the sandboxes between commands.

Started by Spurline itself and not meant for people, hence hidden.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import single
from harness.project import STATE_NAME

app = single()


@app.command("keeper", hidden=True)
def keeper(project: Annotated[Path, typer.Option("--project", metavar="DIR")]) -> None:
    """Serve the local driver of one project until nothing runs any more."""
    from sandbox.local.keeper import serve

    # Not `workshop`: what runs can be looked at and taken down also when spurline.yaml has become invalid.
    root = project.resolve()
    # It has its own way to stop on signals, which ends what it started: no `interrupts.complete` here.
    asyncio.run(serve(root, root / STATE_NAME / "local"))
