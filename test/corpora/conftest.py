"""LibriSpeech in small: chapters in the published layout."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile


@pytest.fixture
def write_chapter() -> Callable[..., None]:
    """A function that writes a chapter of a part as published: noise of some samples a text, and the transcripts."""
    rng = np.random.default_rng(0)

    def write(part: Path, speaker: str, chapter: str, utterances: Sequence[tuple[str, int]]) -> None:
        folder = part / speaker / chapter
        folder.mkdir(parents=True)
        lines = []
        for i, (text, frames) in enumerate(utterances):
            utt_id = f"{speaker}-{chapter}-{i:04d}"
            soundfile.write(folder / f"{utt_id}.flac", rng.integers(-9999, 9999, frames, dtype=np.int16), 16000)
            lines.append(f"{utt_id} {text}\n")
        (folder / f"{speaker}-{chapter}.trans.txt").write_text("".join(lines))

    return write
