"""Decoding a data directory with a finished experiment."""

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from omnirouter.data.dataset import FeatureUtterance, ordered_batches
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.files import atomic_write
from omnirouter.data.tokenizer import Tokenizer
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
