"""The command lines; Ctrl-C is quiet from here on, also while a command still imports what it needs."""

import sys
from types import TracebackType


def _except_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.exit(130)
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _except_hook
