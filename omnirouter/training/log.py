"""The training log: on the console beside the progress bar, and in a file."""

import logging
import sys
from pathlib import Path

from tqdm import tqdm

from omnirouter.training.distributed import is_first

LOG = logging.getLogger("omnirouter")


class _TqdmHandler(logging.StreamHandler):
    """Console lines that do not tear a progress bar."""

    def emit(self, record: logging.LogRecord) -> None:
        tqdm.write(self.format(record), file=sys.stdout)


def log_to(path: Path) -> None:
    """Send the log to the console and, with times, to a file; of several processes only the first one's."""
    LOG.setLevel(logging.INFO)
    LOG.propagate = False
    for handler in LOG.handlers:
        handler.close()
    if not is_first():
        LOG.handlers = [logging.NullHandler()]
        return
    file = logging.FileHandler(path, encoding="utf-8")
    file.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    LOG.handlers = [_TqdmHandler(), file]
