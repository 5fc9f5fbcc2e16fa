"""The commits of a repository, read without trusting its configuration.

Checkouts are made through a bare repository of our own that borrows the objects (`objects/info/alternates`). So no
hook, filter, file-system monitor or alias of the user's or the repository's ever runs, no lock of the
repository is taken, and no worktree metadata is left in it.
"""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import uuid
import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tasks.errors import CheckoutError, SandboxError

_SAFE: Final = ("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=", "-c", "protocol.allow=never")
_TIMEOUT_S: Final = 300.0
_FULL_ID: Final = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")


class Git:
    """Reads one repository; `folder` is our own."""

    def __init__(self, repo: Path, folder: Path) -> None:
        self.repo = repo
        self.worktree: Path | None = None
        """The user's work tree, None where the repository is bare. Set by `open`."""
        self.prefix = ""
        """Where `repo` lies inside of the repository's tree: empty, or ending with a slash."""
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
        self._objects = (self.repo / common / "objects").resolve()
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

    def new_index(self) -> Path:
        """A path for the index of one checkout."""
        return self._folder / f"index.{uuid.uuid4().hex}"

    async def materialise(self, commit: str, into: Path, index: Path) -> None:
        """Write the commit's whole tree below `into`, which must not exist yet, and what lies there into `index`."""
        into.mkdir(parents=True, mode=0o700)
        await self._run(["read-tree", "--reset", "-u", commit], env=self._at(into, index))

    async def advance(self, folder: Path, index: Path, old: str, new: str) -> None:
        """Turn an untouched tree of `old` into the tree of `new`; only files that differ are written."""
        await self._run(["read-tree", "-m", "-u", old, new], env=self._at(folder, index))

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
        return await self._run([*_SAFE, "-c", "safe.directory=*", "-C", str(self.repo), *arguments])

    async def _run(self, arguments: Sequence[str], env: Mapping[str, str] | None = None) -> str:
        """Run git in a thread; its output. CheckoutError with git's own words when it fails."""
        try:
            done = await asyncio.to_thread(
                subprocess.run,
                ["git", *arguments],
                env={**_environment(), **(env or {})},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_TIMEOUT_S,
            )
        except FileNotFoundError:
            raise CheckoutError("git is not installed", hint="install git 2.30 or newer") from None
        except subprocess.TimeoutExpired:
            raise SandboxError(f"git {arguments[0]} took longer than {_TIMEOUT_S:.0f} s") from None
        if done.returncode != 0:
            raise self._failure(done.stderr.strip())
        return done.stdout

    def _failure(self, words: str) -> CheckoutError | SandboxError:
        if "No space left" in words or "Disk quota exceeded" in words:
            return SandboxError(
                f"the disk is full: {words}", hint="free some space; `spurline sandbox gc` removes leftovers"
            )
        if "not a git repository" in words or "cannot change to" in words:
            return CheckoutError(
                f"{str(self.repo)!r} is not a git repository",
                hint="run `git init` there and commit what the baseline is to run",
            )
        return CheckoutError(f"git: {words or 'failed without a word'}")


def _environment() -> dict[str, str]:
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": os.environ.get("HOME", "/"),
        "LC_ALL": "C",
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": os.devnull,
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_OPTIONAL_LOCKS": "0",
    }
