"""One git process after the other, started so that nothing of what it reads can make it run something else.

Reads and commits go through a bare repository of our own that uses the user's objects: it has no hooks, filters,
monitors or aliases, and no work tree whose `.git` an agent could replace.
What must touch the user's own repository (references, worktree metadata) runs there with hooks and monitors off.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from sandbox.git import GitFailed, run_git
from tasks.errors import CheckoutError, SpurlineError, StoreError
from tasks.text import one_line

AGENT_NAME: Final = "Spurline agent"
AGENT_EMAIL: Final = "agent@spurline.invalid"
_IDENTITY: Final[Mapping[str, str]] = {
    "GIT_AUTHOR_NAME": AGENT_NAME,
    "GIT_AUTHOR_EMAIL": AGENT_EMAIL,
    "GIT_COMMITTER_NAME": AGENT_NAME,
    "GIT_COMMITTER_EMAIL": AGENT_EMAIL,
}


@dataclass(frozen=True, slots=True)
class Places:
    """Where the parts of the user's repository lie; absolute paths."""

    top: Path
    """The work tree's root."""
    git_dir: Path
    """Its own metadata (its index, its HEAD); not the common one where it is a linked worktree."""
    common: Path
    """What all worktrees share: objects and references."""

    @property
    def objects(self) -> Path:
        return self.common / "objects"


class Git:
    """Runs git for one repository. `own` is the folder of our bare repository."""

    def __init__(self, places: Places, own: Path) -> None:
        self.places = places
        self._own = own

    async def user(self, *arguments: str, data: bytes | None = None) -> bytes:
        """git on the user's repository: for references and worktree metadata only. Its standard output."""
        return await run(["--git-dir", str(self.places.common), *arguments], data=data)

    async def own(
        self,
        *arguments: str,
        index: Path | None = None,
        tree: Path | None = None,
        data: bytes | None = None,
    ) -> bytes:
        """git on our bare repository, with an index and a work tree where they are needed. Its standard output."""
        env = {"GIT_DIR": str(self._own), "GIT_OBJECT_DIRECTORY": str(self.places.objects)}
        if index is not None:
            env["GIT_INDEX_FILE"] = str(index)
        if tree is not None:
            env["GIT_WORK_TREE"] = str(tree)
        excludes = f"core.excludesFile={self.places.common / 'info' / 'exclude'}"
        return await run(["-c", excludes, *arguments], env=env, data=data, at=tree or self._own)


async def locate(root: Path) -> Places:
    """The repository whose work tree's root is `root`; CheckoutError that says what is wrong with it."""
    words = await _asked(root, "rev-parse", "--is-bare-repository", "--absolute-git-dir", "--git-common-dir")
    bare, git_dir, common = words.splitlines()
    if bare == "true":
        raise CheckoutError(
            f"{str(root)!r} is a bare repository: it has no work tree",
            hint="clone it (`git clone PATH`) and run Spurline in the clone",
        )
    top = Path((await _asked(root, "rev-parse", "--show-toplevel")).strip())
    if top.resolve() != root.resolve():
        raise CheckoutError(
            f"{str(root)!r} is not the root of its git repository, {str(top)!r} is",
            hint="move spurline.yaml to the repository's root and give paths relative to it",
        )
    return Places(top=top.resolve(), git_dir=Path(git_dir).resolve(), common=(root / common).resolve())


async def make_own(places: Places, folder: Path) -> None:
    """Our bare repository in `folder`; harmless where it is there already."""
    words = await run(["--git-dir", str(places.common), "rev-parse", "--show-object-format"])
    object_format = words.decode().strip()
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise CheckoutError(
            f"{str(folder.parent)!r} cannot be made: {error.strerror}", hint="the state folder must be writable"
        ) from error
    await run(["init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", str(folder)])


async def run(
    arguments: Sequence[str],
    *,
    env: Mapping[str, str] | None = None,
    data: bytes | None = None,
    at: Path | None = None,
) -> bytes:
    """Run git as Spurline's agent. CheckoutError in git's own words, with the way out; StoreError for a full disk: that
    of `at`, where git was to write there."""
    try:
        return await run_git(arguments, env={**_IDENTITY, **(env or {})}, data=data)
    except GitFailed as failed:
        raise _explained(failed, at) from None


async def _asked(root: Path, *arguments: str) -> str:
    try:
        return (await run(["-C", str(root), *arguments])).decode()
    except GitFailed as failed:
        if failed.not_a_repository:
            raise CheckoutError(
                f"{str(root)!r} is not a git repository",
                hint="run `git init` there and commit what the baseline is to run",
            ) from None
        raise


def _explained(failed: GitFailed, at: Path | None) -> SpurlineError:
    if failed.disk_is_full:
        return StoreError(
            f"the disk of {at or 'the repository or its .spurline/'} is full: git: {one_line(failed.words, 300)}",
            hint="free some space, then try again",
        )
    if "Permission denied" in failed.words:
        return CheckoutError(failed.message, hint="the repository and .spurline/ must be writable")
    return failed
