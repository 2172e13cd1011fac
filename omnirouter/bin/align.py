"""Align transcripts to the audio with a trained model: writes EXP/align_SET/ctm, or with --hyp EXP/decode_SET/ctm.

A line is `utt-id 1 start_s duration_s WORD`. Utterances that cannot be aligned are left out, and named with the reason.
"""

import argparse
import sys
from pathlib import Path

from omnirouter.bin._main import positive, run
from omnirouter.data.dataset import read_feature_dir
from omnirouter.data.files import named_folder
from omnirouter.decoding.folders import DECODINGS
from omnirouter.decoding.run import align_to_file, transcripts_to_align
from omnirouter.training.devices import choose_device
from omnirouter.training.experiment import load_experiment


def main() -> None:
    """Parse arguments and align."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="finished experiment directory")
    parser.add_argument("--data", type=named_folder, required=True, help="data directory after stage 2")
    parser.add_argument(
        "--hyp", nargs="?", const="greedy", choices=DECODINGS,
        help="align the hypotheses of this decoding (alone: greedy), not the transcripts of DATA/text",
    )  # fmt: skip
    parser.add_argument("--batch-s", type=positive, default=200.0, help="most padded audio in a batch, in seconds")
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs to use (default: one if there is one)")
    args = parser.parse_args()
    device = choose_device(args.ngpu)
    model, tokenizer = load_experiment(args.exp)
    utterances = read_feature_dir(args.data, args.allow_pipes, model.encoder.config.n_mels)
    transcripts, output = transcripts_to_align(args.exp, args.data, args.hyp)
    failed = align_to_file(model.to(device), tokenizer, utterances, transcripts, args.batch_s, output)
    for utt_id, reason in sorted(failed.items()):
        print(f"not aligned: {utt_id}: {reason}", file=sys.stderr)
    print(f"{output}: {len(utterances) - len(failed)} utterances aligned, {len(failed)} left out")


if __name__ == "__main__":
    run(main)
