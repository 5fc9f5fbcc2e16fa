"""What the system lets a process have runs out: the router says so, and goes on with what it has."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FILES = """
import asyncio, resource, sys
from pathlib import Path
from sandbox.router import Router
from sandbox.router.ports import fresh
from sandbox.service import Service, System
from tasks.errors import SandboxError

may = 1024
resource.setrlimit(resource.RLIMIT_NOFILE, (may, may))

async def main():
    names = [f"s{number}" for number in range(9)]
    router = Router(Path(sys.argv[1]), System("many", "s0", {name: Service(name) for name in names}))
    await router.start({name: "127.0.0.1:9" for name in names})
    try:
        slots = []
        try:
            while True:
                slots.append(await router.reserve())
        except SandboxError as error:
            print(error.message, "/", error.hint)
        assert router.alive
        await router.apply([])
        print(len(slots))
    finally:
        await router.aclose()

asyncio.run(main())
try:
    with fresh(may):
        pass
except SandboxError as error:
    print(error.message)
"""


def test_open_files_run_out_for_new_sandboxes_only(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", FILES, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    refused, slots, ports = done.stdout.splitlines()
    assert refused == (
        "the router needs 1129 open files for one more sandbox, and may have 1024 / raise the limit (`ulimit -Hn`) and "
        "bring the baseline up anew, or run fewer sandboxes at once"
    )
    assert int(slots) == 64
    assert ports == "the router needs more open files than this process may have"
