"""Open files: raised to what the agents need, in a process of its own, or refused before anything is started."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import resource, sys
from harness.runtime.open_files import allow_open_files
from tasks.errors import UsageError
agents, soft, hard = map(int, sys.argv[1:])
resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
try:
    allow_open_files(agents)
except UsageError as error:
    print(error.message, "/", error.hint)
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""


REFUSED = """\
1000 agents at once need 2200 open files, and this process may have 1024 / raise the limit (`ulimit -Hn 2200`), or say \
--agents 412
256 1024
"""


@pytest.mark.parametrize(
    ("agents", "soft", "hard", "told"),
    [
        (1000, 256, 4096, "2200 4096\n"),
        (100, 1024, 4096, "1024 4096\n"),
        (1900, 4000, 4000, "4000 4000\n"),
        (
            1000,
            256,
            1024,
            REFUSED,
        ),
    ],
)
def test_as_many_as_the_agents_need(agents: int, soft: int, hard: int, told: str) -> None:
    command = [sys.executable, "-c", SCRIPT, str(agents), str(soft), str(hard)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout == told
