"""The score directory of a decoded set: files in the formats of Kaldi's scoring scripts."""

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_dir
from omnirouter.data.tables import read_table
from omnirouter.decoding.folders import split_name
from omnirouter.scoring.bootstrap import REPLICAS, bootstrap_interval
from omnirouter.scoring.breakdown import NOTHING, confusion_table, duration_table
from omnirouter.scoring.normalize import normalize_english
from omnirouter.scoring.sclite import sclite_operations
from omnirouter.scoring.wer import (
    ErrorCounts,
    Pairs,
    character_units,
    count,
    pairs,
    percent_of,
    total,
    unit_cost_operations,
    word_units,
)

RATE_FILES = {
    "wer": "words of the transcripts as they are",
    "wer_whisper": "words after Whisper's English normaliser on both sides",
    "cer": "characters of the transcripts as they are, each space counted",
}
ALIGNERS = {
    "unit": (unit_cost_operations, "every edit costs 1"),
    "sclite": (sclite_operations, "aligned as by sclite, where a substitution costs 4, another edit 3"),
}
IDS_SHOWN = 10
MAX_WIDTH = 16  # of a column of words, in characters

Alignments = Mapping[str, Pairs]


def score_decoding(data_dir: Path, hypotheses_path: Path, output: Path, aligner: str = "unit") -> dict[str, str]:
    """Score hypotheses against a data directory, write the directory `output`; return the text of its files by name.

    aligner: a key of ALIGNERS. Without `utt2dur` in the data directory, there is no file `wer_by_duration`.
    """
    texts = {"reference": read_table(data_dir / "text")}
    texts["hypothesis"] = read_table(hypotheses_path, allow_empty=True)  # nothing recognised is a result
    utt2spk = read_table(data_dir / "utt2spk")
    _check_same_ids(texts["reference"], texts["hypothesis"], hypotheses_path, data_dir)
    _refuse_ids(texts["reference"].keys() - utt2spk.keys(), f"{data_dir / 'utt2spk'}: no speaker for", "add them")
    durations_s = _read_durations(data_dir / "utt2dur", texts["reference"])
    files = score_files(texts["reference"], texts["hypothesis"], utt2spk, durations_s, aligner)
    with atomic_dir(output) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content.encode())
    return files


def _check_same_ids(references: Mapping[str, str], hypotheses: Mapping[str, str], path: Path, data_dir: Path) -> None:
    """Raise `UserError`, listing ids, unless references and hypotheses (of the file `path`) have the same ids."""
    again = f"mend their features or audio, and decode the whole set again: {_decode_command(path, data_dir)}"
    _refuse_ids(references.keys() - hypotheses.keys(), f"{path}: no hypothesis for", again)
    _refuse_ids(hypotheses.keys() - references.keys(), f"{path}: no reference for", "is it the right data directory?")


def _decode_command(path: Path, data_dir: Path) -> str:
    """Return what writes a file of hypotheses again, also where a recipe takes its stage to be up to date."""
    _, decoding = split_name(path.parent.name)
    option = "" if decoding == "greedy" else f" --decoding {decoding}"
    exp = path.parent.parent if path.parent.name.startswith("decode_") else "EXP"
    words = ["python", "-m", "omnirouter.bin.decode", "--exp", str(exp), "--data", str(data_dir)]
    return f"{shlex.join(words)}{option}, or in a recipe ./run.sh --stage 5 --force{option}, with the options it had"


def score_files(
    references: Mapping[str, str],
    hypotheses: Mapping[str, str],
    utt2spk: Mapping[str, str],
    durations_s: Mapping[str, float] | None = None,
    aligner: str = "unit",
) -> dict[str, str]:
    """Return the text of each file of a score directory; the mappings (by utterance id) have the same ids."""
    ids = sorted(references)
    refs, hyps = [references[i] for i in ids], [hypotheses[i] for i in ids]
    units = {
        "wer": ([word_units(text) for text in refs], [word_units(text) for text in hyps]),
        "wer_whisper": (_normalized_words(refs), _normalized_words(hyps)),
        "cer": ([character_units(text) for text in refs], [character_units(text) for text in hyps]),
    }
    align, costs = ALIGNERS[aligner]
    note = "" if aligner == "unit" else f", {costs}"
    operations = {name: align(*sides) for name, sides in units.items()}
    counts = {name: list(map(count, listed)) for name, listed in operations.items()}
    speakers = [utt2spk[i] for i in ids]
    words = dict(zip(ids, counts["wer"], strict=True))
    alignments = dict(zip(ids, map(pairs, *units["wer"], operations["wer"]), strict=True))
    files = {name: rate_report(counts[name], speakers, what + note) for name, what in RATE_FILES.items()}
    files["per_utt"] = "".join(map(_utterance_lines, ids, alignments.values(), counts["wer"]))
    files["per_spk"] = speaker_table(words, utt2spk)
    files["ops"] = operations_table(alignments)
    files["confusions"] = confusion_table(alignments)
    files["utt2errors"] = errors_table(ids, speakers, counts)
    if durations_s is not None:
        files["wer_by_duration"] = duration_table(words, durations_s)
    return files


def headlines(files: Mapping[str, str]) -> str:
    """Return the first two lines of each rate file on one line, after its name."""
    rows = [(name, *files[name].splitlines()[:2]) for name in RATE_FILES]
    width = max(len(rate) for _, rate, _ in rows)
    return "\n".join(f"{name:<11}  {rate:<{width}}  {interval.partition(' ]')[0]} ]" for name, rate, interval in rows)


def rate_report(utterances: list[ErrorCounts], speakers: Sequence[str], what: str) -> str:
    """Return the lines of a rate file: rate, interval, rate of wrong utterances, what was counted, interval by speaker.

    speakers: of each utterance. The interval by speaker draws whole speakers, whose utterances are alike.
    """
    counts = total(utterances)
    low, high = bootstrap_interval(utterances)
    speaker_low, speaker_high = bootstrap_interval(utterances, speakers)
    wrong, scored = counts.wrong_utterances, counts.utterances
    return (
        f"{counts}\n"
        f"95% Conf Interval [ {low:.2f}, {high:.2f} ] from {REPLICAS} bootstrap replicas of the utterances\n"
        f"%SER {percent_of(wrong, scored):.2f} [ {wrong} / {scored} ]\n"
        f"Scored {scored} utterances, {what}.\n"
        f"95% Conf Interval [ {speaker_low:.2f}, {speaker_high:.2f} ] from {REPLICAS} bootstrap replicas of the "
        f"{len(set(speakers))} speakers\n"
    )


def errors_table(ids: Sequence[str], speakers: Sequence[str], counts: Mapping[str, Sequence[ErrorCounts]]) -> str:
    """Return a line `utt-id speaker errors/words errors/words errors/characters` for each utterance.

    The three are those of RATE_FILES, in its order.
    """
    rows = zip(ids, speakers, *(counts[name] for name in RATE_FILES), strict=True)
    fractions = (
        f"{utt_id} {speaker} " + " ".join(f"{rate.errors}/{rate.ref_units}" for rate in rates)
        for utt_id, speaker, *rates in rows
    )
    return "".join(f"{line}\n" for line in fractions)


def speaker_table(utterances: Mapping[str, ErrorCounts], utt2spk: Mapping[str, str]) -> str:
    """Return counts (`raw`) and percentages (`sys`) of each speaker and their SUM, as Kaldi's per_spk."""
    by_speaker: dict[str, list[ErrorCounts]] = {}
    for utt_id, counts in utterances.items():
        by_speaker.setdefault(utt2spk[utt_id], []).append(counts)
    width = max(15, *map(len, by_speaker))
    titles = ("#SENT", "#WORD", "Corr", "Sub", "Ins", "Del", "Err", "S.Err")
    lines = [f"{'SPEAKER':<{width}} id  " + _columns(titles)]
    for speaker, counts in sorted(by_speaker.items()):
        lines += _speaker_lines(f"{speaker:<{width}}", total(counts))
    lines += _speaker_lines(f"{'SUM':<{width}}", total(list(utterances.values())))
    return "".join(f"{line}\n" for line in lines)


def operations_table(alignments: Alignments) -> str:
    """Return how often each word was right, or wrong and how, most frequent first within a kind, as Kaldi's ops."""
    pairs = Counter(pair for alignment in alignments.values() for pair in alignment)
    rows = [(_operation(ref, hyp), -n, ref or NOTHING, hyp or NOTHING) for (ref, hyp), n in pairs.items()]
    width = min(MAX_WIDTH, max((len(word) for row in rows for word in row[2:]), default=0))
    digits = max((len(str(-row[1])) for row in rows), default=0)
    lines = (f"{name:<12}  {ref:>{width}}    {hyp:>{width}}    {-n:>{digits}}\n" for name, n, ref, hyp in sorted(rows))
    return "".join(lines)


def _read_durations(path: Path, references: Mapping[str, str]) -> dict[str, float] | None:
    """Return the seconds of each utterance from Kaldi's utt2dur; None where there is no such file."""
    if not path.exists():
        return None
    rows = read_table(path)
    _refuse_ids(references.keys() - rows.keys(), f"{path}: no duration for", "make it again (stage 1), or remove it")
    durations_s = {}
    for utt_id in references:
        try:
            durations_s[utt_id] = float(rows[utt_id])
        except ValueError:
            durations_s[utt_id] = math.nan
        if not 0 < durations_s[utt_id] < math.inf:
            raise UserError(
                f"{path}: {rows[utt_id]!r} is no duration of {utt_id!r} in seconds; make it again (stage 1)"
            )
    return durations_s


def _normalized_words(texts: Iterable[str]) -> list[list[str]]:
    return [word_units(normalize_english(text)) for text in texts]


def _refuse_ids(ids: Iterable[str], complaint: str, remedy: str) -> None:
    """Raise `UserError` with the first of `ids` and their number, if there are any."""
    ids = sorted(ids)
    if ids:
        more = f" and {len(ids) - IDS_SHOWN} more" if len(ids) > IDS_SHOWN else ""
        raise UserError(f"{complaint} {len(ids)} utterances: {', '.join(ids[:IDS_SHOWN])}{more}; {remedy}")


def _utterance_lines(utt_id: str, alignment: Pairs, counts: ErrorCounts) -> str:
    """Return an utterance's four lines in Kaldi's per_utt: words and operations in centred columns, then counts."""
    lines = {"ref": "", "hyp": "", "op ": ""}
    for ref, hyp in alignment:
        cells = (ref or NOTHING, hyp or NOTHING, _operation(ref, hyp)[0].upper())
        width = max(map(len, cells))
        for name, cell in zip(lines, cells, strict=True):
            lines[name] += "  " + _centred(cell, width)
    text = "".join(f"{utt_id} {name}{line}\n" for name, line in lines.items())
    c = counts
    return f"{text}{utt_id} #csid {c.correct} {c.substitutions} {c.insertions} {c.deletions}\n"


def _centred(cell: str, width: int) -> str:
    right = (width - len(cell)) // 2  # the odd space goes left, unlike str.center's
    return " " * (width - len(cell) - right) + cell + " " * right


def _operation(ref: str | None, hyp: str | None) -> str:
    if ref is None:
        return "insertion"
    if hyp is None:
        return "deletion"
    return "correct" if ref == hyp else "substitution"


def _speaker_lines(name: str, counts: ErrorCounts) -> list[str]:
    """Return the `raw` line of a speaker, and the `sys` line if there is a reference word to divide by."""
    c = counts
    edits = (c.correct, c.substitutions, c.insertions, c.deletions, c.errors)
    sizes = (c.utterances, c.ref_units)
    lines = [f"{name} raw " + _columns((*sizes, *edits, c.wrong_utterances))]
    if c.ref_units:
        rates = [percent_of(count, c.ref_units) for count in edits] + [percent_of(c.wrong_utterances, c.utterances)]
        lines.append(f"{name} sys " + _columns((*sizes, *(f"{rate:.2f}" for rate in rates))))
    return lines


def _columns(cells: Iterable[object]) -> str:
    return " ".join(f"{cell:>10}" for cell in cells)
