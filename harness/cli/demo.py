"""`spurline demo`: the bundled shop and its backlog, worked for real, without a key and without a network."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Annotated

import typer

from harness.cli.app import single
from harness.cli.interrupts import complete
from harness.cli.options import Json
from harness.cli.output import Output
from harness.cli.place import Place
from tasks.errors import UsageError

app = single()

_MARK = ".spurline-demo"


@app.command("demo")
def demo(
    agents: Annotated[
        int | None, typer.Option("--agents", min=1, metavar="N", help="Multiply the backlog to N agents at once.")
    ] = None,
    folder: Annotated[Path, typer.Option("--dir", metavar="DIR", help="Where to make the repository.")] = Path(
        "spurline-demo"
    ),
    json: Json = False,
) -> None:
    """Make a repository of the bundled shop, start its services, and work its backlog in the closed loop.

    A rehearsal plays the model; the services, forks, requests, checks and verdicts are real. Not every ticket is meant
    to be verified: the backlog shows each way in which a ticket can end.
    """
    from harness.cli.run import work
    from harness.runtime import RunOptions

    out = Output(json=json)
    root = make_shop(folder)
    out.note(f"the shop's repository is {root}")
    program = "spurline" if shutil.which("spurline") else str(Path(sys.executable).with_name("spurline"))
    # The services are started as `python`: the one that Spurline runs on has what they import.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    project = Place(root).workshop()
    drain = asyncio.Event()
    code = complete(work(project, RunOptions(agents=agents, copies=agents), out, drain), drain)
    out.note(f"look around: cd {folder} && {program} runs show last --ticket users-v2")
    # The demo shows honest failures on purpose; only what it could not do is an error.
    raise typer.Exit(0 if code == 1 else code)


def make_shop(folder: Path) -> Path:
    """A fresh git repository of the bundled shop at `folder`; an earlier demo there gives way."""
    folder = folder.resolve()
    if folder.exists():
        if not (folder / ".git" / _MARK).is_file():
            raise UsageError(f"{folder} exists and is no demo of Spurline's", hint="give another folder with --dir")
        shutil.rmtree(folder)
    shutil.copytree(
        bundled_shop(), folder, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache", ".spurline", "*.db")
    )
    identity = ("-c", "user.name=Spurline demo", "-c", "user.email=demo@spurline.invalid")
    for arguments in (("init", "-q", "-b", "main"), ("add", "-A"), (*identity, "commit", "-q", "-m", "The shop")):
        try:
            subprocess.run(["git", *arguments], cwd=folder, check=True, capture_output=True)
        except FileNotFoundError:
            raise UsageError("git is not installed, or not on PATH", hint="install git 2.30 or newer") from None
        except subprocess.CalledProcessError as error:
            said = error.stderr.decode(errors="replace").strip()
            raise UsageError(f"git {arguments[0]} failed in {folder}: {said}") from None
    (folder / ".git" / _MARK).touch()
    return folder


def bundled_shop() -> Path:
    """The shop inside the wheel, or beside the code in a checkout."""
    import tasks

    inside = Path(tasks.__file__).with_name("bundled") / "shop"
    return inside if inside.is_dir() else Path(tasks.__file__).parents[1] / "examples" / "shop"
