"""The command lines; Ctrl-C is quiet from here on, also while a command still imports what it needs."""

import os
import sys
from types import TracebackType


def _except_hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.exit(130)
    sys.__excepthook__(kind, error, trace)


sys.excepthook = _except_hook
# Torch asks Linux for large pages then; it reads this before its first tensor. The gradients of all experts are new
# memory in every step, and filling it takes several times as long in small pages.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
