"""A small project for the command line: services that answer with a word of theirs, and with what the next one says."""

from __future__ import annotations

import sys
from collections.abc import Mapping

from sandbox.sample import APP


def sample_project(calls: Mapping[str, str | None], settings: str = "") -> dict[str, str]:
    """Its files, path to text: each service with the one that it calls, `a` being the entry; the word of each is its
    name. `settings` are further lines of `spurline.yaml`."""
    lines: list[str] = []
    files: dict[str, str] = {}
    for name, called in calls.items():
        env = f', env: {{NEXT: "${{host:{called}}}:${{port:{called}}}"}}' if called else ""
        run = f"cwd: {name}, command: [{sys.executable}, app.py], ready: {{http: /healthz}}"
        lines.append(f"    {name}: {{{run}{env}}}\n")
        files |= {f"{name}/app.py": APP, f"{name}/word.txt": name}
    head = "project: sample\nbaseline:\n  entry: a\n  services:\n"
    return {"spurline.yaml": head + "".join(lines) + settings, **files}
