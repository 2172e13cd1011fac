"""LibriSpeech through lhotse's recipe: training sets of 100, 460 and 960 hours, and the sets to choose and test on."""

import os
from collections.abc import Iterable, Sequence
from pathlib import Path

from omnirouter.corpora.damage import all_damage_named
from omnirouter.data.datadir import Utterance, read_data_dir, write_data_dir
from omnirouter.data.errors import UserError
from omnirouter.data.tables import parse_table

TRAIN_PARTS = {
    100: ("train-clean-100",),
    460: ("train-clean-100", "train-clean-360"),
    960: ("train-clean-100", "train-clean-360", "train-other-500"),
}
EVAL_PARTS = ("dev-clean", "dev-other", "test-clean", "test-other")


def prepare_librispeech(corpus_dir: Path, output: Path, hours: int | None = None) -> None:
    """Write `output`/{train_<hours>,dev,dev_clean,dev_other,test_clean,test_other}; dev is both dev sets together.

    `corpus_dir` holds the parts of that training set and `EVAL_PARTS`, itself or in its folder `LibriSpeech`. Without
    `hours` there is no training set.
    """
    train_parts = TRAIN_PARTS[hours] if hours else ()
    utterances = read_parts(corpus_dir, (*train_parts, *EVAL_PARTS))
    sets = {part.replace("-", "_"): utterances[part] for part in EVAL_PARTS}
    sets["dev"] = sets["dev_clean"] + sets["dev_other"]
    if hours:
        sets[f"train_{hours}"] = [utt for part in train_parts for utt in utterances[part]]
    for name, members in sets.items():
        if not _holds(output / name, members):  # the features of what another --hours has left there stay
            write_data_dir(output / name, members)


def read_parts(corpus_dir: Path, parts: Sequence[str]) -> dict[str, list[Utterance]]:
    """Return the utterances of each part by lhotse's recipe.

    Raises `UserError` with everything that is missing from the parts, or else every damaged audio file.
    """
    try:
        from lhotse.recipes.librispeech import prepare_librispeech as read_manifests
    except ImportError as error:
        raise UserError("package lhotse is missing: pip install 'omnirouter[lhotse]'") from error
    root = corpus_dir / "LibriSpeech" if (corpus_dir / "LibriSpeech").is_dir() else corpus_dir
    utterances = {}
    with all_damage_named(root, _check_complete(root, parts)):
        for part in parts:  # one by one, since lhotse's manifests take 13 kB of memory an utterance
            try:
                manifests = read_manifests(root, dataset_parts=[part], num_jobs=os.cpu_count() or 1)
            except Exception as error:  # lhotse's own have no common class, and it passes on those of others
                raise UserError(f"{root / part}: lhotse cannot read it ({type(error).__name__}: {error})") from error
            utterances[part] = list(_utterances(manifests[part]))
    return utterances


def _utterances(manifest: dict[str, Iterable]) -> Iterable[Utterance]:
    recordings = {recording.id: recording for recording in manifest["recordings"]}  # lhotse searches from the start
    for cut in manifest["supervisions"]:
        audio = recordings[cut.recording_id]
        path, duration_s = Path(audio.sources[0].source), round(audio.duration, 6)  # as a data directory keeps it
        if not duration_s:
            raise UserError(f"{path}: zero frames of audio; get the file again")
        yield Utterance(cut.id, path, cut.text, cut.speaker, duration_s=duration_s)


def _check_complete(root: Path, parts: Sequence[str]) -> list[Path]:
    """Return all audio files; reports at once what is missing, which lhotse passes over, and wrong transcripts."""
    transcripts = {part: sorted((root / part).rglob("*.trans.txt")) for part in parts}
    audio = []
    problems = [
        f"{root / part}: {'no *.trans.txt in it' if (root / part).is_dir() else 'no such folder'}"
        for part, found in transcripts.items()
        if not found
    ]
    for path in (path for found in transcripts.values() for path in found):
        table = parse_table(path)
        problems += map(str, table.problems)
        files = [path.parent / f"{utt_id}.flac" for utt_id in table.rows]
        problems += [f"{file}: missing, though {path.name} has its transcript" for file in files if not file.is_file()]
        audio += files
    if problems:
        raise UserError("\n".join([f"{root} is not a complete copy of {', '.join(parts)}:", *problems]))
    return audio


def _holds(path: Path, utterances: Iterable[Utterance]) -> bool:
    """Tell whether `path` is a complete data directory of just these utterances."""
    try:
        known = read_data_dir(path)
    except UserError:
        return False
    return (path / "spk2utt").exists() and known == sorted(utterances, key=lambda utt: utt.utt_id)
