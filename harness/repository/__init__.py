"""The user's git repository: commits read, worktrees made, branches moved; nothing of its configuration is believed.

Hooks, filters, monitors and aliases of the repository, of the user or of a folder that an agent can write to never run.
"""

from __future__ import annotations

from harness.repository.repository import Change, Repository
from harness.repository.worktrees import Worktrees

__all__ = ["Change", "Repository", "Worktrees"]
