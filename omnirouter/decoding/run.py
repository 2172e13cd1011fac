"""Decoding and aligning a data directory with a finished experiment."""

import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from omnirouter.data.dataset import FeatureUtterance, ordered_batches
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.files import atomic_write
from omnirouter.data.tables import read_table
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.alignment import align_transcripts
from omnirouter.decoding.ctm import write_ctm
from omnirouter.decoding.folders import decode_dir
from omnirouter.decoding.greedy import greedy_decode
from omnirouter.models.ctc import CtcModel


def decode_to_file(
    model: CtcModel, tokenizer: Tokenizer, utterances: Sequence[FeatureUtterance], max_batch_s: float, output: Path
) -> float:
    """Decode greedily and write the hypotheses, `utt-id words…` by id; returns seconds of work per second of audio."""
    started = time.monotonic()
    hypotheses: dict[str, str] = {}
    with tqdm(total=len(utterances), desc=f"decode {output.parent}", unit="utt", file=sys.stderr, disable=None) as bar:
        for part in greedy_decode(model, tokenizer, ordered_batches(utterances, max_batch_s)):
            hypotheses |= part
            bar.update(len(part))
    with atomic_write(output) as file:
        file.writelines(f"{utt_id} {hypotheses[utt_id]}".rstrip() + "\n" for utt_id in sorted(hypotheses))
    return (time.monotonic() - started) * FRAMES_PER_S / max(1, sum(utterance.frames for utterance in utterances))


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
