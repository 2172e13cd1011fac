"""Speed perturbation of a data directory: the utterances as they are, and faster or slower copies of them."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from omnirouter.data.audio import utterance_duration_s
from omnirouter.data.datadir import Utterance, read_data_dir, read_recordings, write_data_dir
from omnirouter.data.errors import UserError


def perturb_speed(utt: Utterance, factor: float) -> Utterance:
    """Return an utterance at `factor` times its speed, of a speaker of its own, as in Kaldi (`sp0.9-<utt>`)."""
    prefix = f"sp{factor:g}-"
    duration_s = utt.duration_s or utterance_duration_s(utt)
    return replace(
        utt,
        utt_id=prefix + utt.utt_id,
        speaker=prefix + utt.speaker,
        duration_s=duration_s / factor,
        speed=utt.speed * factor,
    )


def perturb_data_dir(
    source: Path | str, target: Path | str, factors: Sequence[float], allow_pipes: bool = False
) -> None:
    """Write `target`: the utterances of `source`, and a copy of each for every factor (1.1: faster and higher)."""
    if not factors or any(not 0.5 <= factor <= 2 or factor == 1 for factor in factors):
        raise UserError(f"speed factors {list(factors)}: give one or more from 0.5 to 2, without 1 (the original)")
    if len(set(factors)) < len(factors):
        raise UserError(f"speed factors {list(factors)}: one occurs twice")
    if Path(source).resolve() == Path(target).resolve():
        raise UserError(f"{target}: the perturbed directory must not replace the one it is made from")
    utterances = read_data_dir(source, allow_pipes)
    copies = [perturb_speed(utt, factor) for factor in factors for utt in utterances]
    write_data_dir(target, utterances + copies, read_recordings(source, allow_pipes))
