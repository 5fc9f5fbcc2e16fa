"""Where a command works: the project of `--project` or of the current folder, read when it is first needed.

What is refused here is refused before anything is started: a folder that is no git repository, a bare one, a
`.spurline/` that cannot be written.
"""

from __future__ import annotations

import asyncio
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import UsageError, disk_is_full

if TYPE_CHECKING:
    from harness.cli.output import Output
    from harness.project import Project
    from harness.repository import Repository


@dataclass(frozen=True, slots=True)
class Place:
    """The value of `--project`; None stands for the current folder or the nearest one above with a spurline.yaml."""

    given: Path | None = None

    def root(self) -> Path:
        """The folder of `spurline.yaml`. UsageError where there is none."""
        from harness.project import FILE_NAME, find_root

        if self.given is None:
            return find_root(Path.cwd())
        if not self.given.is_dir():
            raise UsageError(f"--project: there is no folder {str(self.given)!r}", hint="give an existing folder")
        root = self.given.resolve()
        if not (root / FILE_NAME).is_file():
            raise UsageError(
                f"there is no {FILE_NAME} in {str(self.given)!r}",
                hint=f"`spurline -C {self.given} init` writes one for that repository",
            )
        return root

    def project(self) -> Project:
        """The project, read and checked; nothing is written."""
        from harness.project import read_project

        return read_project(self.root())

    def workshop(self) -> Project:
        """The project as the root of a git repository's work tree, with a `.spurline/` that can be written.

        CheckoutError or UsageError where it is not that; no loop may be running.
        """
        from harness.repository.git import locate

        project = self.project()
        asyncio.run(locate(project.root))
        prepare_state(project.state)
        return project


async def repository_of(project: Project, out: Output) -> Repository:
    """The repository, for work by hand: a spurline.yaml that is not committed is used as it is, and that is said."""
    from harness.repository import Repository

    repository = await Repository.open(project.root, settled=False)
    if project.file.name in await repository.dirty():
        out.warning(f"{project.file.name} is not committed as it stands; `spurline run` and `check` will want it to be")
    return repository


def prepare_state(state: Path) -> None:
    """Make `.spurline/`, ignored by git, and see that it can be written. UsageError where it cannot."""
    try:
        state.mkdir(mode=0o700, exist_ok=True)
        ignore = state / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        _try_to_write(state)
    except OSError as error:
        raise _unwritable(state, error) from None


def prepare_folder(folder: Path) -> None:
    """Make a folder for what a command hands out, and see that it can be written. UsageError where it cannot."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _try_to_write(folder)
    except OSError as error:
        raise _unwritable(folder, error) from None


def _try_to_write(folder: Path) -> None:
    # Only a write tells: permission bits say nothing to root, or on a read-only or full file system.
    with tempfile.TemporaryFile(dir=folder) as probe:
        probe.write(b"0" * 4096)
        probe.flush()


def _unwritable(folder: Path, error: OSError) -> UsageError:
    return UsageError(f"{folder} cannot be written: {error.strerror}", hint=_way_out(error, folder))


def _way_out(error: OSError, folder: Path) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{folder.name} must be a folder: move the file away"
    if disk_is_full(error):
        return "free some space on that disk"
    return "give yourself the right to write there, or use a copy of the repository that is yours"
