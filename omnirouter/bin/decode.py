"""Decode a data directory greedily (stage 5): writes EXP/decode_SET/text, `utt-id words…`.

The directory needs what stage 2 (omnirouter.bin.compute_fbank) makes there, and no transcripts.
"""

import argparse
from pathlib import Path

import torch

from omnirouter.bin._main import positive, run
from omnirouter.data.dataset import read_feature_dir
from omnirouter.decoding.run import decode_to_file
from omnirouter.training.devices import choose_device
from omnirouter.training.experiment import load_experiment


def main() -> None:
    """Parse arguments and decode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="finished experiment directory")
    parser.add_argument("--data", type=Path, required=True, help="data directory after stage 2")
    parser.add_argument("--batch-s", type=positive, default=200.0, help="most padded audio in a batch, in seconds")
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs to use (default: one if there is one)")
    args = parser.parse_args()
    device = choose_device(args.ngpu)
    model, tokenizer = load_experiment(args.exp)
    output = args.exp / f"decode_{args.data.name}" / "text"
    utterances = read_feature_dir(args.data, args.allow_pipes, model.encoder.config.n_mels)
    factor = decode_to_file(model.to(device), tokenizer, utterances, args.batch_s, output)
    where = f"{device}, {torch.get_num_threads()} threads"
    print(f"{output}: {len(utterances)} utterances, real-time factor {factor:.4f} on {where}")


if __name__ == "__main__":
    run(main)
