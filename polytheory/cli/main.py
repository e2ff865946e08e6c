"""The entry point: finds the command, and turns every error into one line and an exit code.

Exit codes: 0 all well; 1 something checked does not hold, a run could not go on (it diverged, memory or disk ran out; one
line says what was kept), or nobody reads the output any more; 2 bad input (one line: what arrived, what is allowed, what
to try); 3 our own crash; 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from importlib import import_module
from typing import Annotated, Any

import typer

from polytheory import __version__
from polytheory.errors import PolytheoryError, RunError, UnknownNameError, is_out_of_memory

COMMANDS = (
    "list", "show", "run", "trace", "sweep", "study", "fit", "train", "verify", "check", "conform", "report", "measure",
)  # fmt: skip
FAILED, BAD_INPUT, CRASH, INTERRUPTED = 1, 2, 3, 130

# click's base of usage errors, which typer carries inside itself or takes from outside, depending on its version
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
_DEBUG = "Show the traceback of an error."


def main(argv: Sequence[str] | None = None) -> None:
    """Run the command line and exit with its code."""
    raise SystemExit(call(sys.argv[1:] if argv is None else argv))


def call(argv: Sequence[str]) -> int:
    """Run one command; returns the exit code and never raises."""
    debug = "--debug" in argv
    words = [word for word in argv if word != "--debug"]
    try:
        code = int(build(words)(words or ["--help"], prog_name="polytheory", standalone_mode=False) or 0)
        sys.stdout.flush()
        return code
    except PolytheoryError as error:
        if debug:
            raise
        return _say(f"error: {error}", FAILED if isinstance(error, RunError) else BAD_INPUT)
    except _UsageError as error:
        return _say(f"error: {_text_of(error)}", BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        return _say("interrupted", INTERRUPTED)
    except BrokenPipeError:  # the reader of our output left, as `| head` does
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or the flush at exit fails again
        return FAILED  # as typer itself says when a print fails so
    except Exception as error:
        if debug:
            raise
        if is_out_of_memory(error):
            return _say(f"error: out of memory: {_first_line(error)}; take smaller batches or a smaller model", FAILED)
        what = f"{type(error).__name__}: {error}"
        return _say(f"this is a bug of polytheory: {what} (add --debug for the traceback, and please report it)", CRASH)


def build(words: Sequence[str]) -> typer.Typer:
    """The application with the commands that ``words`` may need: one, or all of them for the overview.

    Raises `UnknownNameError` for a command that does not exist.
    """
    app = typer.Typer(
        name="polytheory",
        help="Reinforcement-learning methods from theorem to practice: references, scaled versions, executable claims.",
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"]},
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    named = next((word for word in words if not word.startswith("-")), None)
    if named is not None and named not in COMMANDS:
        raise UnknownNameError("command", named, COMMANDS)
    for name in COMMANDS if named is None else (named,):
        import_module(f"polytheory.cli.{name}").register(app)
    return app


def _show_version(wanted: bool) -> bool:
    if wanted:
        print(f"polytheory {__version__}")
        raise typer.Exit
    return wanted


def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help=_DEBUG)] = False,
) -> None:
    """Options of every command; both are dealt with before this is called."""


def _text_of(usage_error: Any) -> str:
    return usage_error.format_message()


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _say(message: str, code: int) -> int:
    ranks = sys.modules.get("polytheory.scaled.language.ranks")
    if ranks is None or ranks.speaks(message):  # of several processes with the same error one says it
        print(f"polytheory: {' '.join(message.split())}", file=sys.stderr)
    return code


if __name__ == "__main__":
    main()
