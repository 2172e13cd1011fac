"""Decoding and aligning a data directory with a finished experiment."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from omnirouter.data.dataset import FeatureUtterance, ordered_batches
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.files import atomic_write
from omnirouter.data.tables import read_table
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.alignment import align_transcripts
from omnirouter.decoding.beam import Search, beam_decode
from omnirouter.decoding.ctm import write_ctm
from omnirouter.decoding.folders import decode_dir
from omnirouter.decoding.greedy import greedy_decode
from omnirouter.models.ctc import CtcModel


@dataclass(frozen=True)
class Decoded:
    """What came of decoding a set."""

    real_time_factor: float
    """Seconds of work per second of audio that was decoded."""
    broken: dict[str, str]
    """Utterances without a hypothesis, by id, with the reason."""


def decode_to_file(
    model: CtcModel,
    tokenizer: Tokenizer,
    utterances: Sequence[FeatureUtterance],
    max_batch_s: float,
    output: Path,
    search: Search | None = None,
) -> Decoded:
    """Decode and write the hypotheses, `utt-id words…` by id; greedily, or by a beam search.

    An utterance whose features cannot be had is left out; UserError if that is so of all, and then nothing is written.
    """
    started = time.monotonic()
    hypotheses: dict[str, str] = {}
    broken: dict[str, str] = {}
    with tqdm(total=len(utterances), desc=f"decode {output.parent}", unit="utt", file=sys.stderr, disable=None) as bar:
        batches = ordered_batches(utterances, max_batch_s, on_broken=broken.__setitem__)
        parts = beam_decode(model, tokenizer, batches, search) if search else greedy_decode(model, tokenizer, batches)
        for part in parts:
            hypotheses |= part
            bar.update(len(part))
    if not hypotheses:
        raise UserError(f"no utterance can be decoded; {min(broken)}: {broken[min(broken)]}")
    with atomic_write(output) as file:
        file.writelines(f"{utt_id} {hypotheses[utt_id]}".rstrip() + "\n" for utt_id in sorted(hypotheses))
    audio_s = max(1, sum(utt.frames for utt in utterances if utt.utt_id in hypotheses)) / FRAMES_PER_S
    return Decoded((time.monotonic() - started) / audio_s, broken)


def transcripts_to_align(exp: Path, data_dir: Path, decoding: str | None) -> tuple[dict[str, str], Path]:
    """Return transcripts and where their CTM goes: the data directory's, or the hypotheses of a way of decoding it."""
    if decoding is None:
        return read_table(data_dir / "text"), exp / f"align_{data_dir.name}" / "ctm"
    folder = decode_dir(exp, data_dir.name, decoding)
    if not (folder / "text").exists():
        raise UserError(f"{folder / 'text'} does not exist; stage 5 makes it (omnirouter.bin.decode)")
    return read_table(folder / "text", allow_empty=True), folder / "ctm"


def align_to_file(
    model: CtcModel,
    tokenizer: Tokenizer,
    utterances: Sequence[FeatureUtterance],
    transcripts: Mapping[str, str],
    max_batch_s: float,
    output: Path,
) -> dict[str, str]:
    """Align transcripts and write their words as CTM; returns the utterances left out, by id, with the reason.

    UserError if none can be aligned.
    """
    failed = {u.utt_id: "it has no transcript" for u in utterances if u.utt_id not in transcripts}
    chosen = [utterance for utterance in utterances if utterance.utt_id in transcripts]
    batches = ordered_batches(chosen, max_batch_s, on_broken=failed.__setitem__)
    words, unaligned = align_transcripts(model, tokenizer, batches, transcripts)
    failed |= unaligned
    if not words:
        raise UserError(f"no utterance can be aligned; {min(failed)}: {failed[min(failed)]}")
    write_ctm(output, words)
    return failed
