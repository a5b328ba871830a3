"""How errors end a command."""

import errno
import sys
from typing import Any

import typer
from typer.core import TyperGroup

from ubertrain.errors import UbertrainError
from ubertrain.training.interrupt import Interrupted


class CleanErrors(TyperGroup):
    """Turns the user's mistakes into one message and exit code 2, an interruption into 130; our own bugs stay tracebacks.

    A folder that cannot be written to, or a full disk, counts as the user's.
    """

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except UbertrainError as error:
            _complain(f"{type(error).__name__}: {error}")
            raise typer.Exit(2) from error
        except OSError as error:
            if error.strerror is None or error.errno == errno.EPIPE:  # a reader such as `head` that has seen enough
                raise
            _complain(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
            raise typer.Exit(2) from error
        except (Interrupted, KeyboardInterrupt) as error:
            _complain(str(error) or "interrupted")
            raise typer.Exit(130) from error


def _complain(message: str) -> None:
    """Plain text, which a terminal or log may wrap as it likes: no markup, so that paths in brackets survive."""
    print(message, file=sys.stderr, flush=True)
