"""Print what a configuration's model costs, part by part: parameters, FLOPs per second of audio, training memory."""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.data.fields import split_words
from omnirouter.models.activations import activation_lines
from omnirouter.models.zoo import info_table
from omnirouter.training.config import load_config

MOST_UNITS = 10_000_000


def _units(text: str) -> int:
    """Read a number of output units, for argparse's `type`."""
    if not 1 <= (units := int(text)) <= MOST_UNITS:
        raise argparse.ArgumentTypeError(f"must lie in 1 … {MOST_UNITS}, is {text}")
    return units


def main() -> None:
    """Parse arguments and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML configuration")
    parser.add_argument("--set", default="", help="overrides, such as 'model.experts=2 model.dim=768'")
    parser.add_argument("--vocab-size", type=_units, default=8192, help="output units (default: the paper's 8192)")
    parser.add_argument("--utterance-s", type=float, default=15.0, help="seconds that attention spans (default: 15)")
    args = parser.parse_args()
    config = load_config(args.config, split_words(args.set, "--set"))
    print(info_table(config.model, args.vocab_size, args.utterance_s), end="")
    bf16 = config.training.precision == "bf16"
    print(activation_lines(config.model, args.vocab_size, config.batch.max_batch_s, bf16), end="")


if __name__ == "__main__":
    run(main)
