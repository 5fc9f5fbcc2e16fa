"""What a command that is run to its end says of what nobody caught."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import anyio
import pytest

from harness.cli.interrupts import complete


def test_a_read_that_is_broken_off_in_the_moment_in_which_its_answer_comes_is_not_told_of(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        taken: asyncio.Queue[asyncio.StreamWriter] = asyncio.Queue()
        with tempfile.TemporaryDirectory() as folder:
            path = str(Path(folder) / "s")
            server = await asyncio.start_unix_server(lambda _, writer: taken.put_nowait(writer), path)
            stream = await anyio.connect_unix(path)
            writer = await taken.get()
            reading = asyncio.ensure_future(stream.receive())
            await asyncio.sleep(0.05)
            writer.write(b"x")
            asyncio.get_running_loop().call_soon(reading.cancel)
            await asyncio.wait([reading])
            assert reading.cancelled()
            await stream.aclose()
            writer.close()
            server.close()

    complete(main())
    assert caplog.text == ""


def test_any_other_exception_that_nobody_caught_is_told_of(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        asyncio.get_running_loop().call_soon(lambda: 1 / 0)
        await asyncio.sleep(0.01)

    complete(main())
    assert "ZeroDivisionError" in caplog.text
