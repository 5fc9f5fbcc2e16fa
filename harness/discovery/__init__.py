"""What `init` and `doctor` know: a repository's own words about its system, and what is still missing to run it.

`discover` reads, `render` writes `spurline.yaml` from what was read; both are pure but for reading files. `doctor`'s
half: `examine` looks at the machine and the project, `probing` at the running baseline.
"""

from harness.discovery.discovery import discover
from harness.discovery.findings import Findings
from harness.discovery.page import example_ticket, open_ends, render

__all__ = ["Findings", "discover", "example_ticket", "open_ends", "render"]
