"""The common frame of all command lines: turns a user's mistake into one line on stderr and exit status 1."""

import argparse
import math
import os
import sys
from collections.abc import Callable

from omnirouter.data.errors import UserError


def positive(text: str) -> float:
    """Read an option's value that has to be a positive number, for argparse's `type`."""
    value = float(text)
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"must be positive, is {text}")
    return value


def count(text: str) -> int:
    """Read an option's value that has to be a whole number of at least 1, for argparse's `type`."""
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text} is less than 1")
    return value


LOST = "a process that loads batches has been ended (out of memory?)"


def run(main: Callable[[], None]) -> None:
    """Run a command's `main`; a `UserError` or `OSError` becomes `error: …` and exit status 1, Ctrl-C status 130."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # a file name may hold bytes that the terminal cannot show
    try:
        main()
        sys.stdout.flush()
    except BrokenPipeError:  # `… | head` has seen enough; what is left in the buffer has nowhere to go
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
    except (RuntimeError, ConnectionResetError, EOFError) as error:
        # torch reports a lost process wherever the main one happens to be, so that only here it can be caught.
        if isinstance(error, RuntimeError) and "DataLoader worker (pid" not in str(error):
            raise
        sys.exit(f"error: {LOST}: {error}")
    except (UserError, OSError) as error:
        sys.exit(f"error: {error}")
    except KeyboardInterrupt:
        sys.exit(130)
