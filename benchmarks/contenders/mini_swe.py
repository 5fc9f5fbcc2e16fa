"""mini-swe-agent: its default agent and model, an environment in which commands do nothing, a thread a ticket."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from lap import PROMPT, Lap, Watch, told

# Read as it is imported; a price list is fetched from the network otherwise.
os.environ |= {
    "MSWEA_SILENT_STARTUP": "1",
    "MSWEA_COST_TRACKING": "ignore_errors",
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",
}

from minisweagent.agents.default import DefaultAgent  # type: ignore[import-not-found]
from minisweagent.environments.local import LocalEnvironment  # type: ignore[import-not-found]
from minisweagent.models.litellm_model import LitellmModel  # type: ignore[import-not-found]


class Hollow(LocalEnvironment):  # type: ignore[misc]
    """Commands are answered, and not run."""

    def execute(self, action: dict[str, Any], cwd: str = "", *, timeout: int | None = None) -> dict[str, Any]:
        over = action["command"] == "submit"
        output = {
            "output": "COMPLETE_TASK_AND_SUBMIT_FINAL_OUTPUT\n" if over else "one",
            "returncode": 0,
            "exception_info": "",
        }
        self._check_finished(output)
        return output


def main(lap: Lap) -> None:
    def work(ticket: str) -> bool:
        model = LitellmModel(
            model_name="anthropic/claude-sonnet-4-5",
            model_kwargs={"api_base": lap.url, "api_key": "any", "max_tokens": 16_000},
        )
        agent = DefaultAgent(
            model,
            Hollow(),
            system_template="You read files.",
            instance_template="{{task}}",
            cost_limit=0.0,
            output_path=lap.folder / f"{ticket}.json",
        )
        return bool(agent.run(PROMPT.format(ticket=ticket))["exit_status"] == "Submitted")

    with ThreadPoolExecutor(lap.agents) as pool:
        watch = Watch()
        watch.stop(sum(pool.map(work, lap.tickets)))


if __name__ == "__main__":
    main(told())
