"""Where a command works: the project of `--project` or of the current folder, read when it is first needed.

What is refused here is refused before anything is started or written: a folder that is no git repository, one
without a commit, a `.spurline/` that cannot be written.
"""

from __future__ import annotations

import errno
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tasks.errors import CheckoutError, UsageError

if TYPE_CHECKING:
    from harness.settings import Project


@dataclass(frozen=True, slots=True)
class Place:
    """The value of `--project`; None stands for the current folder or the nearest one above with a spurline.yaml."""

    given: Path | None = None

    def root(self) -> Path:
        """The folder of `spurline.yaml`. UsageError where there is none."""
        from harness.settings import FILE_NAME, find_root

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
        from harness.settings import read_project

        return read_project(self.root())

    def workshop(self) -> Project:
        """The project, with a git repository that has a commit and a `.spurline/` that can be written."""
        project = self.project()
        check_repository(project.root)
        prepare_state(project.state)
        return project


def check_repository(root: Path) -> None:
    """CheckoutError unless `root` is the work tree of a git repository with at least one commit."""
    if _git(root, "rev-parse", "--is-inside-work-tree") != "true":
        bare = _git(root, "rev-parse", "--is-bare-repository") == "true"
        what = "is a bare git repository, without a work tree" if bare else "is not a git repository"
        hint = "run Spurline in a clone of it" if bare else "`git init`, then commit spurline.yaml and the services"
        raise CheckoutError(f"{root} {what}", hint=hint)
    if _git(root, "rev-parse", "--verify", "--quiet", "HEAD^{commit}") is None:
        raise CheckoutError(
            f"the git repository {root} has no commit yet",
            hint="commit first: the baseline runs a commit, not a folder",
        )


def commit_of(root: Path, rev: str) -> str:
    """The full sha of the commit that `rev` names. CheckoutError where it names none."""
    found = None if rev.startswith("-") else _git(root, "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
    if found is None:
        raise CheckoutError(
            f"there is no commit {rev!r} in {root}", hint="`git log --oneline --all` shows what there is"
        )
    return found


def prepare_state(state: Path) -> None:
    """Make `.spurline/`, ignored by git, and see that it can be written. UsageError where it cannot."""
    try:
        state.mkdir(mode=0o700, exist_ok=True)
        ignore = state / ".gitignore"
        if not ignore.exists():
            ignore.write_text("*\n")
        # Only a write tells: permission bits say nothing to root, or on a read-only or full file system.
        with tempfile.TemporaryFile(dir=state) as probe:
            probe.write(b"0" * 4096)
            probe.flush()
    except OSError as error:
        raise UsageError(f"{state} cannot be written: {error.strerror}", hint=_state_hint(error, state)) from None


def _state_hint(error: OSError, state: Path) -> str:
    if isinstance(error, FileExistsError | NotADirectoryError):
        return f"{state.name} must be a folder: move the file away"
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return "free some space on that disk"
    return "give yourself the right to write there, or use a copy of the repository that is yours"


def _git(root: Path, *arguments: str) -> str | None:
    """The output of one git query, None where it failed."""
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *arguments], capture_output=True, stdin=subprocess.DEVNULL, check=False
        )
    except FileNotFoundError:
        raise CheckoutError("git is not installed, or not on PATH", hint="install git 2.30 or newer") from None
    return done.stdout.decode(errors="replace").strip() if done.returncode == 0 else None
