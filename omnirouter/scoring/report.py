"""The score directory of a decoded set: files in the formats of Kaldi's scoring scripts."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_dir
from omnirouter.data.tables import read_table
from omnirouter.scoring.bootstrap import REPLICAS, bootstrap_interval
from omnirouter.scoring.normalize import normalize_english
from omnirouter.scoring.wer import (
    ErrorCounts,
    align,
    character_units,
    percent_of,
    total,
    utterance_errors,
    word_units,
)

RATE_FILES = {
    "wer": "words of the transcripts as they are",
    "wer_whisper": "words after Whisper's English normaliser on both sides",
    "cer": "characters of the transcripts as they are, each space counted",
}
NOTHING = "***"  # stands in an alignment where a side has no word, as in Kaldi's per_utt
IDS_SHOWN = 10
MAX_WIDTH = 16  # of a column of words, in characters

Alignments = Mapping[str, list[tuple[str | None, str | None]]]


def score_decoding(data_dir: Path, hypotheses_path: Path, output: Path) -> dict[str, str]:
    """Score hypotheses against a data directory, write the directory `output`; return the text of its files by name."""
    texts = {"reference": read_table(data_dir / "text")}
    texts["hypothesis"] = read_table(hypotheses_path, allow_empty=True)  # nothing recognised is a result
    utt2spk = read_table(data_dir / "utt2spk")
    check_same_ids(texts["reference"], texts["hypothesis"], hypotheses_path)
    _refuse_ids(texts["reference"].keys() - utt2spk.keys(), f"{data_dir / 'utt2spk'}: no speaker for", "add them")
    files = score_files(texts["reference"], texts["hypothesis"], utt2spk)
    with atomic_dir(output) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content.encode())
    return files


def check_same_ids(references: Mapping[str, str], hypotheses: Mapping[str, str], path: Path) -> None:
    """Raise `UserError`, listing ids, unless references and hypotheses (of the file `path`) have the same ids."""
    _refuse_ids(references.keys() - hypotheses.keys(), f"{path}: no hypothesis for", "decode the whole set again")
    _refuse_ids(hypotheses.keys() - references.keys(), f"{path}: no reference for", "is it the right data directory?")


def score_files(
    references: Mapping[str, str], hypotheses: Mapping[str, str], utt2spk: Mapping[str, str]
) -> dict[str, str]:
    """Return the text of each file of a score directory; the mappings (by utterance id) have the same ids."""
    ids = sorted(references)
    refs, hyps = [references[i] for i in ids], [hypotheses[i] for i in ids]
    ref_words, hyp_words = [word_units(text) for text in refs], [word_units(text) for text in hyps]
    counts = {
        "wer": utterance_errors(ref_words, hyp_words),
        "wer_whisper": utterance_errors(_normalized_words(refs), _normalized_words(hyps)),
        "cer": utterance_errors(map(character_units, refs), map(character_units, hyps)),
    }
    alignments = dict(zip(ids, map(align, ref_words, hyp_words), strict=True))
    files = {name: rate_report(counts[name], units) for name, units in RATE_FILES.items()}
    files["per_utt"] = "".join(map(_utterance_lines, ids, alignments.values(), counts["wer"]))
    files["per_spk"] = speaker_table(dict(zip(ids, counts["wer"], strict=True)), utt2spk)
    files["ops"] = operations_table(alignments)
    return files


def headlines(files: Mapping[str, str]) -> str:
    """Return the first two lines of each rate file on one line, after its name."""
    rows = [(name, *files[name].splitlines()[:2]) for name in RATE_FILES]
    width = max(len(rate) for _, rate, _ in rows)
    return "\n".join(f"{name:<11}  {rate:<{width}}  {interval.partition(' ]')[0]} ]" for name, rate, interval in rows)


def rate_report(utterances: list[ErrorCounts], units: str) -> str:
    """Return the lines of a rate file: rate, interval, rate of wrong utterances, and what was counted (`units`)."""
    counts = total(utterances)
    low, high = bootstrap_interval(utterances)
    wrong, scored = counts.wrong_utterances, counts.utterances
    return (
        f"{counts}\n"
        f"95% Conf Interval [ {low:.2f}, {high:.2f} ] from {REPLICAS} bootstrap replicas of the utterances\n"
        f"%SER {percent_of(wrong, scored):.2f} [ {wrong} / {scored} ]\n"
        f"Scored {scored} utterances, {units}.\n"
    )


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


def _normalized_words(texts: Iterable[str]) -> list[list[str]]:
    return [word_units(normalize_english(text)) for text in texts]


def _refuse_ids(ids: Iterable[str], complaint: str, remedy: str) -> None:
    """Raise `UserError` with the first of `ids` and their number, if there are any."""
    ids = sorted(ids)
    if ids:
        more = f" and {len(ids) - IDS_SHOWN} more" if len(ids) > IDS_SHOWN else ""
        raise UserError(f"{complaint} {len(ids)} utterances: {', '.join(ids[:IDS_SHOWN])}{more}; {remedy}")


def _utterance_lines(utt_id: str, alignment: list[tuple[str | None, str | None]], counts: ErrorCounts) -> str:
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
