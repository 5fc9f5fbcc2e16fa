"""Inspect AI: one task with a sample a ticket, its own loop of tool calls, its own log; the tool does nothing."""

from __future__ import annotations

from inspect_ai import Task, eval  # type: ignore[import-not-found]
from inspect_ai.dataset import MemoryDataset, Sample  # type: ignore[import-not-found]
from inspect_ai.model import get_model  # type: ignore[import-not-found]
from inspect_ai.solver import generate, use_tools  # type: ignore[import-not-found]
from inspect_ai.tool import Tool, tool  # type: ignore[import-not-found]
from lap import PROMPT, Lap, Watch, told


@tool  # type: ignore[misc]
def read() -> Tool:
    async def execute(file_path: str) -> str:
        """Read a file.

        Args:
            file_path: Which one.
        """
        return "one"

    return execute


def main(lap: Lap) -> None:
    model = get_model("anthropic/claude-sonnet-4-5", base_url=lap.url, api_key="any")
    samples = MemoryDataset([Sample(id=ticket, input=PROMPT.format(ticket=ticket)) for ticket in lap.tickets])
    task = Task(dataset=samples, solver=[use_tools(read()), generate()])
    watch = Watch()
    (log,) = eval(
        task,
        model=model,
        log_dir=str(lap.folder),
        max_samples=lap.agents,
        max_connections=lap.agents,
        max_tokens=16_000,
        display="none",
    )
    watch.stop(sum(sample.error is None for sample in log.samples or ()))


if __name__ == "__main__":
    main(told())
