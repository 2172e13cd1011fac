"""The weights of a language model in beam search, chosen on a dev set and kept with the model in the experiment."""

import dataclasses
import itertools
import json
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from omnirouter.data.dataset import FeatureUtterance, ordered_batches
from omnirouter.data.errors import UserError
from omnirouter.data.files import atomic_dir
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.beam import Search, search_all, unknown_share
from omnirouter.decoding.posteriors import posteriors
from omnirouter.models.ctc import CtcModel
from omnirouter.scoring.wer import ErrorCounts, word_errors

LM_WEIGHTS = (0.0, 0.25, 0.5, 0.75, 1.0, 1.5)
WORD_SCORES = (0.0, 1.0, 2.0)
FOLDER, NGRAM, WEIGHTS = "lm", "ngram", "weights.json"
MOST_UNKNOWN = 0.5
"""Share of a set's words: where more are unknown, the language model is of another language, case or spelling."""


@dataclass(frozen=True)
class Trial:
    """Weights that were tried, and the word errors of the dev set with them."""

    lm_weight: float
    word_score: float
    errors: ErrorCounts


def try_weights(
    model: CtcModel,
    tokenizer: Tokenizer,
    utterances: Sequence[FeatureUtterance],
    searches: Sequence[Search],
    max_batch_s: float,
    on_broken: Callable[[str, str], None],
) -> list[Trial]:
    """Decode a set by each search, from log-probabilities that are computed once; the model must be in eval mode."""
    list(search_all([], tokenizer, searches[0]))  # what is wrong with the language model shows before the work
    texts = {utterance.utt_id: utterance.text for utterance in utterances}
    batches = ordered_batches(utterances, max_batch_s, on_broken=on_broken)
    found = dict(posteriors(model, batches, max(search.labels for search in searches)))
    references = [texts[utt_id] for utt_id in found]
    if not any(references):
        raise UserError("the set to tune on has no transcripts, or none of its utterances can be read")
    trials = []
    for search in tqdm(searches, desc="tune", unit="trial", file=sys.stderr, disable=None):
        hypotheses = search_all(list(found.values()), tokenizer, search)
        trials.append(Trial(search.lm_weight, search.word_score, word_errors(references, hypotheses)))
    return trials


def grid(lm: Path, lm_weights: Sequence[float], word_scores: Sequence[float], beam_size: int) -> list[Search]:
    """Return a search for each pair of a weight and a word score."""
    pairs = itertools.product(lm_weights, word_scores)
    return [Search(beam_size, lm=lm, lm_weight=weight, word_score=score) for weight, score in pairs]


def best_trial(trials: Sequence[Trial]) -> Trial:
    """Return the trial with the fewest errors; of several, the one with the smallest weights."""
    return min(trials, key=lambda trial: (trial.errors.errors, trial.lm_weight, abs(trial.word_score)))


def edges(best: Trial, trials: Sequence[Trial]) -> list[str]:
    """Name the weights whose best value is the first or the last of several that were tried: there may be a better."""
    found = []
    for name in ("lm_weight", "word_score"):
        tried, value = sorted({getattr(trial, name) for trial in trials}), getattr(best, name)
        at_lowest = value == tried[0] and (name, value) != ("lm_weight", 0)  # none at all is a good answer
        if len(tried) > 1 and (value == tried[-1] or at_lowest):
            found.append(f"{name} {value:g}")
    return found


def notes(best: Trial, trials: Sequence[Trial]) -> list[str]:
    """Say where the language model is of no use, and where weights beyond those tried may be better."""
    found = []
    if best.lm_weight == 0 and any(trial.lm_weight for trial in trials):
        found.append("lm_weight 0 is best: this language model does not help")
    if at_edge := edges(best, trials):
        found.append(
            f"at the edge of what was tried: {', '.join(at_edge)}; try --lm-weights or --word-scores beyond it"
        )
    return found


def print_unknown(lm: Path, utterances: Sequence[FeatureUtterance]) -> None:
    """Print the share of the words of a set that a language model does not know; warn where it is most of them."""
    share = unknown_share(lm, (utterance.text for utterance in utterances))
    print(f"{lm}: {share:.1%} of the words of the set unknown to it")
    if share > MOST_UNKNOWN:
        print(f"warning: {lm} does not know most words: are they in the case of the transcripts?", file=sys.stderr)


def trial_table(trials: Sequence[Trial]) -> str:
    """Return the WER of each trial as plain text: a row for each weight, a column for each word score."""
    scores = list(dict.fromkeys(trial.word_score for trial in trials))
    percents = {(trial.lm_weight, trial.word_score): trial.errors.percent for trial in trials}
    lines = ["lm_weight  WER % with word_score " + "".join(f"{score:8g}" for score in scores)]
    for weight in dict.fromkeys(trial.lm_weight for trial in trials):
        lines.append(f"{weight:9g}{'':24}" + "".join(f"{percents[weight, score]:8.2f}" for score in scores))
    return "\n".join(lines)


def keep_lm(exp: Path, lm: Path, best: Trial, beam_size: int, dev: Path, trials: Sequence[Trial]) -> None:
    """Put a copy of the language model, its weights and how they were chosen into the experiment, as `EXP/lm`."""
    content = {
        "lm_weight": best.lm_weight,
        "word_score": best.word_score,
        "beam_size": beam_size,
        "model": str(lm),
        "tuned_on": str(dev),
        "dev_wer_percent": round(best.errors.percent, 2),
        "trials": [[trial.lm_weight, trial.word_score, round(trial.errors.percent, 2)] for trial in trials],
    }
    with atomic_dir(exp / FOLDER) as folder:
        shutil.copyfile(lm, folder / NGRAM)
        (folder / WEIGHTS).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def choose_search(exp: Path, decoding: str, beam_size: int | None = None) -> Search | None:
    """Return the search of one of DECODINGS, None for greedy; with a language model, that of the experiment.

    beam_size: in the place of the default, or of the one that the weights were chosen with, of which a warning tells.
    """
    if decoding == "greedy":
        return None
    search = _kept_search(exp) if decoding == "lm" else Search()
    if beam_size in (None, search.beam_size):
        return search
    if decoding == "lm":
        kept = f"{exp / FOLDER / WEIGHTS} was tuned with a beam of {search.beam_size}"
        print(f"warning: {kept}: with {beam_size}, other weights may be better", file=sys.stderr)
    return dataclasses.replace(search, beam_size=beam_size)


def _kept_search(exp: Path) -> Search:
    """Return the search that was best on the dev set; `UserError` if the experiment has no language model."""
    path = exp / FOLDER / WEIGHTS
    if not path.is_file():
        raise UserError(f"{path} does not exist: python -m omnirouter.bin.tune_lm, on the dev set, makes it")
    try:
        kept = json.loads(path.read_text(encoding="utf-8"))
        lm_weight, word_score = float(kept["lm_weight"]), float(kept["word_score"])
        return Search(int(kept["beam_size"]), lm=exp / FOLDER / NGRAM, lm_weight=lm_weight, word_score=word_score)
    except (ValueError, TypeError, KeyError) as error:
        raise UserError(
            f"{path}: no weights of a language model with their beam size; run omnirouter.bin.tune_lm again, "
            "or stage 5 with --force"
        ) from error
