"""What is left to chance: `CHAOS_SEED` sets it, and the name of a test that uses it says it."""

from __future__ import annotations

import os
from typing import Final

SEED: Final = int(os.environ.get("CHAOS_SEED", "1"))
