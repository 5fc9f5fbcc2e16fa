"""The one place where errors become words and exit codes.

People read `error: …` and `hint: …` on stderr. With `--json` the last line on stdout is in addition
`{"error": {"code", "message", "hint"}}`, so that who reads the stream learns why it ended. Nothing that comes
from outside reaches the terminal with its control sequences.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tasks.errors import EnvironmentFault, ForkError, SpurlineError, disk_is_full
from tasks.text import plain

INTERRUPTED: Final = 130
_LOG_LINES: Final = 20


@dataclass(frozen=True, slots=True)
class Failure:
    """An error as it is shown: a stable code, one message, the way out, and what was last logged."""

    code: str
    message: str
    hint: str
    exit_code: int
    log: tuple[str, ...] = ()


def guarded(argv: Sequence[str]) -> int:
    """Run the command line `argv`; the exit code. Never raises but SystemExit."""
    _forgive_encodings()
    _spare_httpx_its_own_command_line()
    try:
        code = _run(argv)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader has gone. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return INTERRUPTED


def _run(argv: Sequence[str]) -> int:
    import typer

    from harness.cli.app import build

    try:
        code = typer.main.get_command(build())(list(argv), prog_name="spurline", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except (BrokenPipeError, KeyboardInterrupt):
        raise
    except typer.Abort:
        return INTERRUPTED
    except typer.TyperException as error:
        return report(_usage(error), argv)
    except SpurlineError as error:
        return report(failure(error), argv)
    except OSError as error:
        return report(_system(error, argv), argv)
    # A task boundary: whatever is not ours to explain goes into a file, with a short text for the user.
    except Exception as error:
        return report(_crash(error, argv), argv)


def failure(error: SpurlineError) -> Failure:
    """How a `SpurlineError` is shown."""
    log = error.log if isinstance(error, ForkError) else ()
    return Failure(error.code, error.message, error.hint, error.exit_code, log)


def report(failed: Failure, argv: Sequence[str]) -> int:
    """Show the failure and return its exit code."""
    from harness.cli.app import arguments_after_options
    from harness.cli.output import Output

    out = Output(json="--json" in arguments_after_options(argv))
    out.failure(failed.message, failed.hint, failed.log[-_LOG_LINES:])
    if out.json:
        out.object({"error": {"code": failed.code, "message": plain(failed.message), "hint": plain(failed.hint)}})
    return failed.exit_code


def _usage(error: Exception) -> Failure:
    """What typer refused: an option, an argument, a missing command."""
    context = getattr(error, "ctx", None)
    path = getattr(context, "command_path", "spurline")
    text = error.format_message() if hasattr(error, "format_message") else str(error)
    message, _, rest = text.partition("(Possible options: ")
    hint = f"did you mean {rest.removesuffix(')')}?" if rest else f"`{path} --help` shows how it is used"
    return Failure("usage", _lower_first(message.strip().rstrip(".")), hint, getattr(error, "exit_code", 2))


def _system(error: OSError, argv: Sequence[str]) -> Failure:
    """The operating system refused: named with its file, where it has one; a crash where it has none."""
    if error.filename is None and disk_is_full(error):
        # Written to, not opened: the system does not say which file it was.
        places = ", or ".join(dict.fromkeys(map(str, (Path.cwd(), tempfile.gettempdir()))))
        return Failure("system", f"the disk is full: that of {places}", "free some space", EnvironmentFault.exit_code)
    if error.filename is None or error.strerror is None:
        return _crash(error, argv)
    message = f"{os.fsdecode(error.filename)}: {error.strerror}"
    return Failure("system", message, "see to that file or folder, then try again", EnvironmentFault.exit_code)


def _crash(error: BaseException, argv: Sequence[str]) -> Failure:
    from harness.cli.crash import write_crash

    path = write_crash(error, argv)
    where = f"the traceback is in {path}" if path else "the traceback could not be written anywhere"
    message = f"Spurline itself failed: {type(error).__name__}: {error}"
    return Failure("crash", message, f"{where}; please report it", 1)


def _forgive_encodings() -> None:
    """A terminal that cannot show a character shows its number instead of ending the command."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _spare_httpx_its_own_command_line() -> None:
    """httpx imports its command line, with click, pygments and rich, into everybody: 0.2 s of each of our commands.

    It does without where that module cannot be imported, which None says.
    """
    sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # documented: None stops the import


def _lower_first(text: str) -> str:
    return text[:1].lower() + text[1:]
