"""Choose the weights of an n-gram model on the dev set: writes EXP/lm/, the model and its weights.

Decoding with `--decoding lm` reads them. The log-probabilities of the set are computed once for all trials.
"""

import argparse
import sys
from pathlib import Path

from omnirouter.bin._main import positive, run
from omnirouter.data.dataset import read_feature_dir
from omnirouter.data.files import named_folder
from omnirouter.decoding.beam import Search
from omnirouter.scoring.tuning import (
    LM_WEIGHTS,
    WORD_SCORES,
    best_trial,
    grid,
    keep_lm,
    notes,
    print_unknown,
    trial_table,
    try_weights,
)
from omnirouter.training.devices import choose_device
from omnirouter.training.experiment import load_experiment


def main() -> None:
    """Parse arguments and tune."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="finished experiment directory")
    parser.add_argument("--data", type=named_folder, required=True, help="data directory of the dev set, after stage 2")
    parser.add_argument("--lm", type=Path, required=True, help="n-gram model of words: an ARPA file or kenlm binary")
    parser.add_argument(
        "--lm-weights", type=float, nargs="+", default=LM_WEIGHTS, help="to try: factors of the natural log-probability"
    )
    parser.add_argument("--word-scores", type=float, nargs="+", default=WORD_SCORES, help="to try: added for each word")
    parser.add_argument("--beam-size", type=int, default=Search.beam_size, help="most hypotheses kept at a time")
    parser.add_argument("--batch-s", type=positive, default=200.0, help="most padded audio in a batch, in seconds")
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs to use (default: one if there is one)")
    args = parser.parse_args()
    device = choose_device(args.ngpu)
    model, tokenizer = load_experiment(args.exp)
    utterances = read_feature_dir(args.data, args.allow_pipes, model.encoder.config.n_mels)
    searches = grid(args.lm, args.lm_weights, args.word_scores, args.beam_size)
    print_unknown(args.lm, utterances)
    trials = try_weights(model.to(device), tokenizer, utterances, searches, args.batch_s, on_broken=report)
    best = best_trial(trials)
    keep_lm(args.exp, args.lm, best, args.beam_size, args.data, trials)
    print(trial_table(trials))
    print(f"{args.exp / 'lm'}: lm_weight {best.lm_weight:g}, word_score {best.word_score:g}: {best.errors}")
    for note in notes(best, trials):
        print(note)


def report(utt_id: str, reason: str) -> None:
    """Say why an utterance does not count."""
    print(f"left out: {utt_id}: {reason}", file=sys.stderr)


if __name__ == "__main__":
    run(main)
