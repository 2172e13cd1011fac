"""Decode a data directory (stage 5): writes EXP/decode_SET/text, `utt-id words…`.

The directory needs what stage 2 (omnirouter.bin.compute_fbank) makes there, and no transcripts. Hypotheses of a beam
search go to EXP/decode_SET_beam, with a language model to EXP/decode_SET_lm. An utterance whose features or audio
cannot be read is named with the reason and has no hypothesis, which scoring refuses.
"""

import argparse
import sys
from pathlib import Path

import torch

from omnirouter.bin._main import positive, run
from omnirouter.data.dataset import read_feature_dir
from omnirouter.data.files import named_folder
from omnirouter.decoding.beam import Search
from omnirouter.decoding.folders import DECODINGS, decode_dir
from omnirouter.decoding.run import decode_to_file
from omnirouter.scoring.tuning import choose_search
from omnirouter.training.devices import choose_device
from omnirouter.training.experiment import load_experiment


def main() -> None:
    """Parse arguments and decode."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", type=Path, required=True, help="finished experiment directory")
    parser.add_argument("--data", type=named_folder, required=True, help="data directory after stage 2")
    parser.add_argument(
        "--decoding", choices=DECODINGS, default="greedy",
        help="the most probable path (greedy, the default), beam search (beam), or beam search with the n-gram model "
        "that omnirouter.bin.tune_lm has put into EXP/lm (lm)",
    )  # fmt: skip
    parser.add_argument(
        "--beam-size", type=int,
        help=f"most hypotheses kept at a time (default: {Search.beam_size}, or what EXP/lm was tuned with)",
    )  # fmt: skip
    parser.add_argument("--batch-s", type=positive, default=200.0, help="most padded audio in a batch, in seconds")
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs to use (default: one if there is one)")
    args = parser.parse_args()
    if args.beam_size is not None and args.decoding == "greedy":
        parser.error("--beam-size is for --decoding beam or lm")
    search = choose_search(args.exp, args.decoding, args.beam_size)
    device = choose_device(args.ngpu)
    model, tokenizer = load_experiment(args.exp)
    output = decode_dir(args.exp, args.data.name, args.decoding) / "text"
    utterances = read_feature_dir(args.data, args.allow_pipes, model.encoder.config.n_mels)
    decoded = decode_to_file(model.to(device), tokenizer, utterances, args.batch_s, output, search)
    for utt_id, reason in sorted(decoded.broken.items()):
        print(f"not decoded: {utt_id}: {reason}", file=sys.stderr)
    if decoded.broken:
        print(f"{len(decoded.broken)} utterances have no hypothesis: mend them and decode again", file=sys.stderr)
    where = f"{device}, {torch.get_num_threads()} threads"
    count = len(utterances) - len(decoded.broken)
    print(f"{output}: {count} utterances, real-time factor {decoded.real_time_factor:.4f} on {where}")


if __name__ == "__main__":
    run(main)
