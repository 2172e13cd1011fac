"""CMU AN4 (census, spelled words and digits) in its published layout: `etc/` lists and transcripts, `wav/` audio."""

import random
import re
from dataclasses import replace
from pathlib import Path

from omnirouter.corpora.damage import all_damage_named
from omnirouter.data.audio import utterance_duration_s
from omnirouter.data.datadir import Utterance, write_data_dir
from omnirouter.data.errors import UserError

DEV_SPEAKERS_PER_SEX = 4  # of 21 women and 53 men in train; ids begin with f or m
AUDIO_SUFFIXES = (".flac", ".sph", ".wav")  # published as SPHERE

_TRANSCRIPT = re.compile(r"(?:<s>)?\s*(?P<text>.*?)\s*(?:</s>)?\s*\((?P<name>[^()\s]+)\)")


def prepare_an4(corpus_dir: Path, output: Path) -> None:
    """Write `output`/{train,dev,test}: the official test set, and as dev some speakers held out from train.

    Raises `UserError` with everything that is missing from the corpus, or else every damaged audio file.
    """
    problems: list[str] = []
    train_and_dev = _read_list(corpus_dir, "train", problems)
    test = _read_list(corpus_dir, "test", problems)
    if problems:
        raise UserError("\n".join([f"{corpus_dir} is not a complete AN4:", *problems]))
    with all_damage_named(corpus_dir, [utt.recording for utt in (*train_and_dev, *test)]):
        train_and_dev, test = _with_durations(train_and_dev), _with_durations(test)
    held_out = dev_speakers({utt.speaker for utt in train_and_dev})
    write_data_dir(output / "train", [utt for utt in train_and_dev if utt.speaker not in held_out])
    write_data_dir(output / "dev", [utt for utt in train_and_dev if utt.speaker in held_out])
    write_data_dir(output / "test", test)


def dev_speakers(speakers: set[str]) -> set[str]:
    """Choose as many women as men, always the same ones of the same speakers, and at most half of them."""
    rng = random.Random("AN4 dev")
    groups = [sorted(speaker for speaker in speakers if speaker[0] == sex) for sex in "fm"]
    return {name for group in groups for name in rng.sample(group, min(DEV_SPEAKERS_PER_SEX, len(group) // 2))}


def _with_durations(utterances: list[Utterance]) -> list[Utterance]:
    return [replace(utt, duration_s=utterance_duration_s(utt)) for utt in utterances]


def _read_list(corpus_dir: Path, part: str, problems: list[str]) -> list[Utterance]:
    """Return the utterances of `etc/an4_<part>.fileids`; what is wrong goes into `problems`."""
    transcription = corpus_dir / "etc" / f"an4_{part}.transcription"
    fileids = corpus_dir / "etc" / f"an4_{part}.fileids"
    texts = {}
    for number, line in enumerate(_read_lines(transcription, problems), start=1):
        if match := _TRANSCRIPT.fullmatch(line.strip()):
            texts[match["name"]] = match["text"]
        else:
            problems.append(f"{transcription}:{number}: not a transcript `TEXT (id)`: {line!r}")
    utterances = []
    for number, line in enumerate(_read_lines(fileids, problems), start=1):
        stem = corpus_dir / "wav" / line.strip()
        recording = next((path for suffix in AUDIO_SUFFIXES if (path := Path(f"{stem}{suffix}")).is_file()), None)
        if recording is None:
            problems.append(f"{stem}{{{','.join(AUDIO_SUFFIXES)}}}: missing")
        elif not texts.get(stem.name):
            problems.append(f"{fileids}:{number}: {stem.name} has no transcript in {transcription.name}")
        else:
            speaker = stem.parent.name
            utt_id = f"{speaker}-{stem.name.replace(f'-{speaker}', '', 1)}"  # an251-fash-b becomes fash-an251-b
            utterances.append(Utterance(utt_id, recording, texts[stem.name], speaker))
    return utterances


def _read_lines(path: Path, problems: list[str]) -> list[str]:
    if not path.is_file():
        problems.append(f"{path}: missing")
        return []
    return path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()  # bad bytes are refused on writing
