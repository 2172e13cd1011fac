"""Mini LibriSpeech through lhotse's recipe, and a set of long recordings that are cut again by `segments`."""

from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
import soundfile

from omnirouter.corpora.damage import all_damage_named
from omnirouter.corpora.librispeech import read_parts
from omnirouter.data.audio import open_audio
from omnirouter.data.datadir import Utterance, write_data_dir
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_dir

SAMPLE_RATE_HZ = 16000
SETS = {"train-clean-5": "train_clean_5", "dev-clean-2": "dev_clean_2"}


def prepare_mini_librispeech(corpus_dir: Path, output: Path, audio_dir: Path) -> None:
    """Write `output`/{train_clean_5,dev_clean_2,test_seg}, and the audio of test_seg to `audio_dir`/test_seg.

    `corpus_dir` holds `train-clean-5` and `dev-clean-2`, itself or in its folder `LibriSpeech`.
    """
    utterances = read_parts(corpus_dir, list(SETS))
    recordings = [utt.recording for part in SETS for utt in utterances[part]]
    with all_damage_named(corpus_dir, recordings), atomic_dir(audio_dir / "test_seg") as folder:
        segments = _join_chapters(utterances["dev-clean-2"], folder, audio_dir / "test_seg")
    for part, name in SETS.items():
        write_data_dir(output / name, utterances[part])
    write_data_dir(output / "test_seg", segments)


def _join_chapters(utterances: Sequence[Utterance], folder: Path, final_folder: Path) -> list[Utterance]:
    """Write each chapter's utterances end to end as `folder`/<speaker>-<chapter>.flac.

    Returns the same utterances as segments of those recordings, which will be in `final_folder`.
    """
    segments = []
    for chapter, members in groupby(sorted(utterances, key=lambda utt: utt.utt_id), key=_chapter):
        pieces, end = [], 0
        for utt in members:
            pieces.append(_read_samples(utt))
            start, end = end, end + len(pieces[-1])
            times_s = {"start_s": start / SAMPLE_RATE_HZ, "end_s": end / SAMPLE_RATE_HZ}
            segments.append(Utterance(utt.utt_id, final_folder / f"{chapter}.flac", utt.text, utt.speaker, **times_s))
        soundfile.write(folder / f"{chapter}.flac", np.concatenate(pieces), SAMPLE_RATE_HZ, subtype="PCM_16")
    return segments


def _chapter(utt: Utterance) -> str:
    return utt.utt_id.rpartition("-")[0]


def _read_samples(utt: Utterance) -> np.ndarray:
    with open_audio(utt.recording) as file:
        if (file.samplerate, file.channels) != (SAMPLE_RATE_HZ, 1):
            raise UserError(
                f"{utt.recording}: {file.samplerate} Hz, {file.channels} channels; LibriSpeech has 16000, 1"
            )
        return file.read(dtype="int16")
