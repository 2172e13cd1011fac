"""Damaged audio in a published corpus: where one file stops its preparation, all that are damaged are named."""

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from tqdm import tqdm

from omnirouter.data.errors import UserError
from omnirouter.data.validate import DEEP_BELOW_UTTERANCES, check_recording


@contextmanager
def all_damage_named(corpus_dir: Path, recordings: Sequence[Path]) -> Iterator[None]:
    """Turn a `UserError` within into one that names every damaged file of `recordings`, if any of them is."""
    try:
        yield
    except UserError as error:
        damages = find_damages(recordings)
        if not damages:
            raise
        noun = "audio file" if len(damages) == 1 else "audio files"
        raise UserError("\n".join([f"{corpus_dir}: {len(damages)} {noun} cannot be used:", *damages])) from error


def find_damages(recordings: Sequence[Path]) -> list[str]:
    """Say of each damaged file what is wrong, and what to do; all are decoded if they are few, as in validation."""
    deep = len(recordings) < DEEP_BELOW_UTTERANCES
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        checks = pool.map(lambda recording: check_recording(recording, deep), recordings)
        progress = tqdm(checks, "looking for damaged files", len(recordings), unit="file", disable=None)
        return [
            f"{recording}: {what}; {fix}"
            for recording, check in zip(recordings, progress, strict=True)
            for what, fix in check.faults
        ]
