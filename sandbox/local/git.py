"""The commits of a repository, read without trusting its configuration.

Checkouts are made through a bare repository of our own that borrows the objects (`objects/info/alternates`). So no
hook, filter, file-system monitor or alias of the user's or the repository's ever runs, no lock of the
repository is taken, and no worktree metadata is left in it.
"""

from __future__ import annotations

import asyncio
import re
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from sandbox.driver import Source
from sandbox.git import GitFailed, run_git
from tasks.errors import CheckoutError, SandboxError
from tasks.text import one_line

_FULL_ID: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Git:
    """Reads one repository; `folder` is our own."""

    def __init__(self, repo: Path, folder: Path) -> None:
        self.repo = repo
        self.worktree: Path | None = None
        """The user's work tree, None where the repository is bare. Set by `open`."""
        self.prefix = ""
        """Where `repo` lies inside of the repository's tree: empty, or ending with a slash."""
        self.common = Path()
        """What all work trees of the repository share. Set by `open`."""
        self._folder = folder
        self._objects = Path()
        self._known: set[str] = set()

    async def open(self) -> None:
        """Find the repository and borrow its objects; CheckoutError if there is none."""
        asked = await self._repo("rev-parse", "--is-bare-repository", "--git-common-dir", "--show-object-format")
        bare, common, object_format = asked.splitlines()
        if bare != "true":
            top, *prefix = (await self._repo("rev-parse", "--show-toplevel", "--show-prefix")).splitlines()
            self.worktree, self.prefix = Path(top), "".join(prefix)
        self.common = (self.repo / common).resolve()
        self._objects = (self.common / "objects").resolve()
        await self._run(
            ["init", "--quiet", "--bare", "--template=", f"--object-format={object_format}", str(self._folder)]
        )
        info = self._folder / "objects" / "info"
        info.mkdir(parents=True, exist_ok=True)
        (info / "alternates").write_text(f"{self._objects}\n")

    async def resolve(self, revision: str) -> str:
        """The full id of the commit that `revision` names; CheckoutError if none."""
        if revision in self._known or self._is_loose_commit(revision):
            self._known.add(revision)
            return revision
        try:
            commit = (
                await self._repo("rev-parse", "--verify", "--quiet", "--end-of-options", f"{revision}^{{commit}}")
            ).strip()
        except CheckoutError:
            raise CheckoutError(
                f"{revision!r} is no commit of {str(self.repo)!r}",
                hint="give a branch, a tag or a commit that exists there",
            ) from None
        if revision == commit:
            self._known.add(revision)
        return commit

    async def exact(self, source: Source) -> Source:
        """The same source, its commit by the full id; CheckoutError where there is no such commit."""
        return source if source.commit is None else Source(commit=await self.resolve(source.commit))

    def new_index(self) -> Path:
        """A path for the index of one checkout."""
        return self._folder / f"index.{uuid.uuid4().hex}"

    async def materialise(self, commit: str, into: Path, index: Path) -> None:
        """Write the commit's whole tree below `into`, which must not exist yet, and what lies there into `index`."""
        into.mkdir(parents=True, mode=0o700)
        await self._run(["read-tree", "--reset", "-u", commit], env=self._at(into, index))

    async def advance(self, folder: Path, index: Path, old: str, new: str) -> None:
        """Turn an untouched tree of `old` into the tree of `new`; only files that differ are written.

        CheckoutError where others would have to be: attributes decide how git writes a file, its line ends for one."""
        env = self._at(folder, index)
        differs = ("diff-tree", "-r", "--name-only", old, new, "--", ":(glob)**/.gitattributes")
        _, attributes = await asyncio.gather(
            self._run(["read-tree", "-m", "-u", old, new], env=env), self._run(differs, env=env)
        )
        if attributes:
            raise CheckoutError(f"{one_line(attributes)} is not the same in {old[:12]} and {new[:12]}")

    def _at(self, folder: Path, index: Path) -> dict[str, str]:
        return {"GIT_DIR": str(self._folder), "GIT_WORK_TREE": str(folder), "GIT_INDEX_FILE": str(index)}

    def _is_loose_commit(self, name: str) -> bool:
        """Whether `name` is the full id of a commit that lies in a file of its own, as every new one does. This saves a
        process on the way to each fork."""
        if not _FULL_ID.fullmatch(name):
            return False
        try:
            with (self._objects / name[:2] / name[2:]).open("rb") as loose:
                return zlib.decompressobj().decompress(loose.read(64), 7) == b"commit "
        except (OSError, zlib.error):
            return False

    async def _repo(self, *arguments: str) -> str:
        return await self._run(["-C", str(self.repo), *arguments])

    async def _run(self, arguments: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        """Run git; its output. CheckoutError or SandboxError, with the way out, when it fails."""
        try:
            return (await run_git(arguments, env=env)).decode(errors="surrogateescape")
        except GitFailed as failed:
            raise self._explained(failed) from None

    def _explained(self, failed: GitFailed) -> CheckoutError | SandboxError:
        if failed.disk_is_full:
            return SandboxError(
                f"the disk of {str(self._folder.parent)!r} is full: git: {one_line(failed.words, 200)}",
                hint="free some space; `spurline sandbox gc` removes leftovers",
            )
        if failed.not_a_repository:
            return CheckoutError(
                f"{str(self.repo)!r} is not a git repository",
                hint="run `git init` there and commit what the baseline is to run",
            )
        return failed
