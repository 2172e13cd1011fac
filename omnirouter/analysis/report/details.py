"""What the page shows of one utterance as one experiment has it: alignment, word times, experts."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from omnirouter.analysis.matching import matched_experts
from omnirouter.analysis.report.scripts import characters
from omnirouter.analysis.subject import read_subject
from omnirouter.decoding.ctm import Word, read_ctm
from omnirouter.decoding.folders import split_name
from omnirouter.scoring.alignments import Alignment, read_alignments

TICKS_PER_S = 100  # of word times
FIELDS = ("hyp", "ops", "ref_times", "hyp_times", "experts")


@dataclass(frozen=True)
class Decoded:
    """All that is known of an experiment on a set."""

    score: Path
    alignments: Mapping[str, Alignment]
    ref_words: Mapping[str, Sequence[Word]]
    """Times of the words of references, by utterance; empty where they have not been aligned."""
    hyp_words: Mapping[str, Sequence[Word]]
    experts: Mapping[str, np.ndarray]
    """Of each token of an utterance, int (MoE layers, tokens), by names matched between layers (as the paper's Fig. 2
    matches colours); empty without an analysis of the routing."""
    layers: dict[str, Any] | None
    """Numbers of the MoE layers, how many names their experts have, and the seconds of a token."""


def read_decoded(experiment: Path, set_name: str) -> Decoded:
    """Read an experiment's results on a set: the scores have to be there."""
    score = experiment / f"decode_{set_name}/score"
    data_name, _ = split_name(f"decode_{set_name}")
    experts, layers = _experts(experiment, data_name)
    return Decoded(
        score=score,
        alignments=read_alignments(score / "per_utt"),
        ref_words=_words(experiment / f"align_{data_name}/ctm"),
        hyp_words=_words(experiment / f"decode_{set_name}/ctm"),
        experts=experts,
        layers=layers,
    )


def detail(decoded: Decoded, utt_id: str) -> dict[str, Any]:
    """Return FIELDS of an utterance: hypothesis and operations, times of words where they are known, and experts.

    Times are, for each word, hundredths of a second since the one before began, and of its duration; left out where
    they are those of other words (an earlier decoding's). The experts are `characters`, those of all layers of a
    token, the lowest first, before those of the next: layers agree, so that this packs better than layer by layer.
    """
    alignment = decoded.alignments[utt_id]
    found: dict[str, Any] = {"hyp": " ".join(alignment.hyp), "ops": alignment.operations}
    timed = {"ref": (decoded.ref_words, alignment.ref), "hyp": (decoded.hyp_words, alignment.hyp)}
    for side, (words_of, expected) in timed.items():
        words = words_of.get(utt_id, ())
        if words and [word.text for word in words] == expected:
            ticks = (np.array([(w.start_s, w.duration_s) for w in words]) * TICKS_PER_S).round().astype(int)
            ticks[:, 0] = np.diff(ticks[:, 0], prepend=0)
            found[f"{side}_times"] = ticks.ravel().tolist()
    if utt_id in decoded.experts:
        found["experts"] = characters(decoded.experts[utt_id].T.ravel())
    return found


def _words(path: Path) -> Mapping[str, Sequence[Word]]:
    return read_ctm(path) if path.is_file() else {}


def _experts(experiment: Path, data_name: str) -> tuple[Mapping[str, np.ndarray], dict[str, Any] | None]:
    """Return the experts by utterance, and what the page says of the layers."""
    if not (experiment / f"routing_{data_name}/experts.npz").is_file():
        return {}, None
    subject = read_subject(experiment, data_name)
    found = subject.assignments
    matched_LT = matched_experts(found, subject.routers)
    layers = {
        "layers": found.layers.tolist(),
        "names": int(matched_LT.max(initial=0)) + 1,
        "matched": len(set(subject.routers)) > 1,
        "token_s": found.token_s,
    }
    return {utt_id: matched_LT[:, span] for utt_id, span in found.spans.items()}, layers
