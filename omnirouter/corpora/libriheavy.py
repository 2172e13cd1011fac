"""Libriheavy: the published lhotse manifests over Libri-light's long recordings become data directories with segments.

A manifest is read line by line and the tables are sorted on disk, so that the eleven million utterances of large take
no more memory than those of small, but for 0.3 kB a recording. The manifests of medium and large do not hold the
smaller subsets: training on a subset takes those of the smaller ones too, as its authors and icefall do.
"""

import gzip
import json
import re
import sys
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tqdm import tqdm

from omnirouter.corpora.librispeech import prepare_librispeech
from omnirouter.data.datadir import Utterance
from omnirouter.data.errors import UserError
from omnirouter.data.tables import BAD_IN_VALUE, value_fault
from omnirouter.data.writer import DROPPED, stream_data_dir

SUBSETS = {"small": ("small",), "medium": ("small", "medium"), "large": ("small", "medium", "large")}
SAMPLE_RATE_HZ = 16000
ROUNDING_S = 0.01  # the manifests round times; a cut is wrong that ends later after its recording, or lasts no longer
MAX_MISSING_SHARE = 0.01  # users of the published corpus miss some recordings; where more lack, the copy is incomplete
AUDIO_MARK = "librilight/"  # sources are written download/librilight/small/100/…
NOT_IN_WORDS = re.compile(r"[^A-Za-z0-9']+")
APOSTROPHES = str.maketrans("‘’", "''")
CASED_MARKS = str.maketrans("‘’“”，。；？！（）：《》、【】-", "''\"\",.;?!():<>/[] ")  # the hyphen becomes a space


def upper(text: str) -> str:
    """Capitals, digits and apostrophes; all else separates words. As the authors of Libriheavy normalise it."""
    return NOT_IN_WORDS.sub(" ", text.translate(APOSTROPHES)).upper().strip()


def cased(text: str) -> str:
    """The text as in the book, its marks as the authors of Libriheavy write them in their cased form.

    LibriSpeech and Whisper's normaliser know the plain apostrophe only. Single spaces, no control characters.
    """
    return " ".join(BAD_IN_VALUE.sub(" ", text.translate(CASED_MARKS)).split())


TEXTS: dict[str, Callable[[str], str]] = {"upper": upper, "cased": cased}


@dataclass(frozen=True)
class Cut:
    """What is used of one line of a manifest."""

    cut_id: str
    recording_id: str
    source: str  # the recording's file, below Libri-light's folder
    sample_rate_hz: float
    recording_s: float
    start_s: float
    duration_s: float
    speaker: str
    text: str  # of the book; empty if there is none

    @property
    def end_s(self) -> float:
        """Its end, or that of its recording if that comes first."""
        return min(self.start_s + self.duration_s, self.recording_s)


def prepare_libriheavy(
    corpus_dir: Path, output: Path, subset: str, text: str = "upper", librispeech_dir: Path | None = None
) -> None:
    """Write `output`/train_<subset> and LibriSpeech's {dev,dev_clean,dev_other,test_clean,test_other}.

    With `text` cased the training set is train_<subset>_cased, and there is dev_cased, Libriheavy's own dev set as far
    as its recordings are there. `corpus_dir` holds `libriheavy/` with the manifests, `librilight/` with small/ and so
    on, or the content of either itself; and `LibriSpeech/`, unless `librispeech_dir` names one.
    """
    trains = _find(corpus_dir, "libriheavy", [manifest_name(part) for part in SUBSETS[subset]])
    devs = _find(corpus_dir, "libriheavy", [manifest_name("dev")] if text == "cased" else [])
    folders = _find(corpus_dir, "librilight", SUBSETS[subset])
    librispeech_dir = librispeech_dir or corpus_dir / "LibriSpeech"
    missing = [str(path) for path in (*trains, *devs, *folders, librispeech_dir) if not path.exists()]
    if missing:
        raise UserError(
            "\n".join([f"{corpus_dir} lacks something of Libriheavy {subset}:", *missing])
            + "\n(LibriSpeech, for the dev and test sets, may lie elsewhere: --librispeech-dir)"
        )
    prepare_librispeech(librispeech_dir, output)
    audio, suffix = folders[0].parent.absolute(), "_cased" if text == "cased" else ""
    if devs:
        _write_cased_dev(output / "dev_cased", devs, audio)
    write_set(output / f"train_{subset}{suffix}", trains, audio, TEXTS[text])


def _write_cased_dev(path: Path, manifests: Sequence[Path], audio: Path) -> None:
    """Write Libriheavy's own dev set, as far as its recordings are there.

    Its authors drew its books from all three folders by hours, so that most of it should be in large: who has only a
    smaller one may have little of it, or nothing.
    """
    try:
        write_set(path, manifests, audio, TEXTS["cased"], may_lack=1.0)
    except UserError as error:
        raise UserError(f"{path}: {error}\n(--text upper does without this set: it has LibriSpeech's)") from error


def manifest_name(part: str) -> str:
    """Return the file name of a subset's, or another part's, manifest."""
    return f"libriheavy_cuts_{part}.jsonl.gz"


def _find(corpus_dir: Path, folder: str, names: Sequence[str]) -> list[Path]:
    """Return where files or folders should be: in a folder of `corpus_dir` if that exists, else in it itself."""
    parent = corpus_dir / folder if (corpus_dir / folder).is_dir() else corpus_dir
    return [parent / name for name in names]


def write_set(
    path: Path,
    manifests: Sequence[Path],
    audio: Path,
    to_text: Callable[[str], str],
    may_lack: float = MAX_MISSING_SHARE,
) -> None:
    """Write a data directory of the cuts of manifests whose recordings lie below `audio`; lists those it drops.

    `UserError` for a line that is not of the published form, or if more than the share `may_lack` has no recording, or
    nothing is left for lack of them; it counts what lacks by Libri-light's folders.
    """
    recordings: dict[str, bool] = {}  # by their files, and whether these exist
    missing: Counter[str] = Counter()  # utterances by folder
    with stream_data_dir(path) as writer:
        for cut in _all_cuts(manifests):
            utt_id, text = cut.cut_id.replace("/", "-"), to_text(cut.text)
            if cut.source not in recordings:
                recordings[cut.source] = (audio / cut.source).is_file()
            if reason := _why_dropped(cut, text, recordings[cut.source]):
                writer.drop(utt_id, reason)
                if not recordings[cut.source]:
                    missing[cut.source.partition("/")[0]] += 1
            else:
                utt = Utterance(utt_id, audio / cut.source, text, cut.speaker, cut.start_s, cut.end_s)
                writer.add(cut.recording_id.replace("/", "-"), utt)
        _check_missing(missing, writer.written, writer.written + writer.dropped, may_lack, audio, recordings)
    if writer.dropped:
        total = writer.written + writer.dropped
        print(f"{path}: {writer.dropped} of {total} utterances dropped; {path / DROPPED} says why")


def _all_cuts(manifests: Sequence[Path]) -> Iterator[Cut]:
    for manifest in manifests:
        yield from tqdm(read_cuts(manifest), manifest.name, unit="cut", unit_scale=True, disable=None)


def read_cuts(manifest: Path) -> Iterator[Cut]:
    """Yield the cuts of a published manifest; `UserError` naming the first line that is none."""
    fix = "get the manifest again, as published"
    try:
        with gzip.open(manifest) as lines:
            for number, line in enumerate(lines, start=1):
                try:
                    cut = _parse(line)
                except KeyError as error:
                    raise UserError(f"{manifest}:{number}: the field {error} is missing; {fix}") from error
                except (ValueError, TypeError, AttributeError) as error:
                    raise UserError(f"{manifest}:{number}: not a cut of Libriheavy ({error}); {fix}") from error
                yield cut
    except (EOFError, OSError, zlib.error) as error:
        raise UserError(f"{manifest}: cannot be read to its end ({error}); delete it and {fix}") from error


def _parse(line: bytes) -> Cut:
    """Read one line; what `read_cuts` catches for what is missing or wrong in it."""
    cut = json.loads(line)
    recording, (supervision,) = cut["recording"], cut["supervisions"]
    (source,) = recording["sources"]
    _, mark, file = _name(source, "source").partition(AUDIO_MARK)
    if not mark:
        raise ValueError(f"its audio {source['source']!r} is not in {AUDIO_MARK}")
    rate_hz = _number(recording, "sampling_rate", least=1)
    return Cut(
        cut_id=_name(cut, "id"),
        recording_id=_name(recording, "id"),
        source=file,
        sample_rate_hz=rate_hz,
        recording_s=_number(recording, "num_samples") / rate_hz,
        start_s=_number(cut, "start"),
        duration_s=_number(cut, "duration"),
        speaker=_name(supervision, "speaker"),
        text=_book_text(supervision),
    )


def _name(fields: dict[str, Any], key: str) -> str:
    value = fields[key]
    if not (isinstance(value, str) and value) or value_fault(value):
        raise ValueError(f"{key} is {value!r}, not a name")
    return value


def _number(fields: dict[str, Any], key: str, least: float = 0) -> float:
    value = fields[key]
    if type(value) not in (int, float) or not least <= value <= sys.float_info.max:  # NaN is not
        raise ValueError(f"{key} is {value!r}, not a number from {least}")
    return float(value)


def _book_text(supervision: dict[str, Any]) -> str:
    if "texts" not in supervision.get("custom", {}):
        raise ValueError("its supervision has no custom.texts: this manifest was derived from the published one")
    texts = supervision["custom"]["texts"]
    if not isinstance(texts, list | None) or not all(isinstance(text, str | None) for text in texts or ()):
        raise ValueError(f"custom.texts is {texts!r}, not a list of texts")
    return (texts or [""])[0] or ""  # the second is a recogniser's


def _why_dropped(cut: Cut, text: str, has_audio: bool) -> str:
    """Say why a cut is not used; empty if it is."""
    end_s = cut.start_s + cut.duration_s
    if not has_audio:
        return f"no recording {cut.source}"
    if not any(character.isalnum() for character in text):
        return "no words in its text"
    if cut.sample_rate_hz != SAMPLE_RATE_HZ:
        return f"{cut.sample_rate_hz:g} Hz, not {SAMPLE_RATE_HZ}"
    if end_s > cut.recording_s + ROUNDING_S:
        return f"ends at {end_s:.3f} s, its recording at {cut.recording_s:.3f} s"
    if cut.end_s - cut.start_s <= ROUNDING_S:
        return f"starts at {cut.start_s} s and lasts {cut.duration_s} s, its recording ends at {cut.recording_s:.3f} s"
    return ""


def _check_missing(
    missing: Counter[str], written: int, total: int, may_lack: float, audio: Path, recordings: dict[str, bool]
) -> None:
    if not missing.total() or (written and missing.total() <= may_lack * total):
        return
    lost = [source for source, exists in recordings.items() if not exists]
    folders = ", ".join(f"{count} in {audio / name}" for name, count in sorted(missing.items()))
    may = f"up to {may_lack:.0%} of the utterances may lack" if may_lack < 1 else "some may lack, but not all"
    raise UserError(
        f"{missing.total()} of {total} utterances have no recording, {folders}: {len(lost)} files are missing, the "
        f"first {audio / lost[0]}; complete Libri-light ({may})"
    )
