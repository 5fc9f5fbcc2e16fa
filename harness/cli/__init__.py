"""The command line: one module a noun, data on stdout, narration on stderr.

Importing this package imports nothing else, so that `--help`, completion and the light commands start quickly;
the heavy rooms (engine, agents, store) are imported by the commands that need them, when they run.
"""

from __future__ import annotations


def main() -> None:
    """The console script `spurline`: run the command of `sys.argv` and exit with its code."""
    import sys

    try:
        from harness.cli.errors import guarded

        code = guarded(sys.argv[1:])
    except KeyboardInterrupt:
        # Ctrl-C while even that was still imported.
        code = 130
    sys.exit(code)
