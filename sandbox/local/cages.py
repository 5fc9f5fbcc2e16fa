"""The cages of forks and their builds: what the code of a commit that nobody has judged may reach of this machine.

The baseline runs without: its code is the team's own. A fork sees its checkout and the linked folders, can write below
its own folder, and reaches its neighbours; the user's work tree, home, environment and processes are not there.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sandbox.confinement import Cage, build_caches
from sandbox.local.checkouts import Checkout
from sandbox.local.git import Git
from sandbox.service import Service


@dataclass(frozen=True, slots=True)
class Cages:
    """Makes the cages of one driver's forks; none of them may see the user's work tree or the driver's state."""

    git: Git
    state: Path
    environ: Mapping[str, str]

    @property
    def _hidden(self) -> tuple[Path, ...]:
        return self.git.worktree or self.git.repo, self.git.common, self.state

    def of_checkout(self, service: Service, checkout: Checkout) -> Cage:
        """Around a process that runs a commit. A checkout that others may share is read-only but for the service's own
        folder: no fork may change what another one starts from."""
        own = checkout.folder if checkout.private else checkout.root / service.cwd
        # Through a symlink that the commit has on the way, something else would become writable.
        folder = Path(os.path.realpath(checkout.folder))
        straight = os.path.realpath(own) == os.path.normpath(folder / own.relative_to(checkout.folder))
        writable = (own,) if straight else ()
        return Cage(writable=writable, readable=(checkout.folder, *checkout.links), hidden=self._hidden, network=True)

    def of_build(self, checkout: Checkout) -> Cage:
        """Around a build, which has a checkout to itself and shares the caches of build tools with everybody."""
        writable = (checkout.folder, *build_caches(self.environ))
        return Cage(writable=writable, readable=checkout.links, hidden=self._hidden, network=True)

    def of_folder(self, folder: Path) -> Cage:
        """Around what runs a folder as it stands: it may change the folder, but not what git believes of it."""
        return Cage(writable=(folder,), readable=(folder / ".git",), hidden=self._hidden, network=True)
