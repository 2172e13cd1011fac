"""Learn the output units from a data directory's transcripts (stage 3): writes tokens.txt, for BPE bpe.model, and
learned_from, which says what transcripts these were.

Of more than a million transcripts, BPE learns from a million, drawn at random, always the same; every character has a
unit.
"""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.data.streams import read_values
from omnirouter.data.tokenizer import TOKEN_TYPES, train_tokenizer


def main() -> None:
    """Parse arguments and learn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dir", type=Path, help="data directory of the training set")
    parser.add_argument("--type", choices=TOKEN_TYPES, default="bpe", help="kind of units")
    parser.add_argument("--vocab-size", type=int, default=500, help="number of BPE units, blank included")
    parser.add_argument("--output", type=Path, required=True, help="language directory to make")
    args = parser.parse_args()
    text = args.data_dir / "text"
    size = train_tokenizer(read_values(text), args.type, args.vocab_size, args.output, text)
    print(f"{args.output}: {size} {args.type} units, blank included")


if __name__ == "__main__":
    run(main)
