"""Audio of the report: Ogg Opus beside the page, and the outline of the waveform that is seen before it is heard."""

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import soundfile

from omnirouter.analysis.report.scripts import characters
from omnirouter.data.audio import load_utterance
from omnirouter.data.datadir import Utterance
from omnirouter.data.errors import UserError
from omnirouter.data.jobs import available_cores

SAMPLE_RATE_HZ = 16000
OUTLINE_HZ = 80
MOST_OUTLINE_POINTS = 300
OUTLINE_LEVELS = 32


@dataclass(frozen=True)
class Sound:
    """What the page has of an utterance's audio."""

    outline: str
    """See `outline`; empty if the audio could not be read."""
    duration_s: float
    problem: str = ""
    """Why there is none."""


def write_sounds(utterances: Sequence[Utterance], folder: Path) -> Iterable[Sound]:
    """Write each utterance as `folder/<its number>.ogg`, and yield its outline, in order."""
    folder.mkdir(parents=True)
    paths = [folder / f"{number}.ogg" for number in range(len(utterances))]
    with ThreadPoolExecutor(available_cores()) as pool:  # libsndfile works without Python's lock
        yield from pool.map(_write_sound, utterances, paths)


def outline(samples: np.ndarray) -> str:
    """Return the greatest amplitudes of stretches of a waveform (frames,), relative to its greatest, 0 to 31.

    As `characters`: 80 a second, or 300 in all if that is fewer.
    """
    points = min(max(1, round(len(samples) / SAMPLE_RATE_HZ * OUTLINE_HZ)), MOST_OUTLINE_POINTS)
    peaks = np.array([np.abs(part).max(initial=0.0) for part in np.array_split(samples, points)])
    return characters(np.round(peaks / max(peaks.max(), 1e-9) * (OUTLINE_LEVELS - 1)))


def _write_sound(utterance: Utterance, path: Path) -> Sound:
    try:
        samples = load_utterance(utterance, SAMPLE_RATE_HZ)
    except UserError as error:
        return Sound("", utterance.duration_s or 0.0, str(error))
    soundfile.write(path, samples, SAMPLE_RATE_HZ, format="OGG", subtype="OPUS")
    return Sound(outline(samples), len(samples) / SAMPLE_RATE_HZ)
