"""Estimate an n-gram model of words from transcripts: writes an ARPA file (interpolated modified Kneser–Ney)."""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.data.tables import read_table
from omnirouter.decoding.ngram import estimate_ngram


def main() -> None:
    """Parse arguments and estimate."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data_dirs", type=Path, nargs="+", metavar="data_dir", help="data directories with transcripts")
    parser.add_argument("--order", type=int, default=3, help="words of the longest n-grams, 2 or more")
    parser.add_argument("--output", type=Path, required=True, help="ARPA file to write")
    args = parser.parse_args()
    texts = [text for data_dir in args.data_dirs for text in read_table(data_dir / "text").values()]
    model = estimate_ngram((text.split() for text in texts), args.order)
    model.write_arpa(args.output)
    print(f"{args.output}: {len(model.log_probs)} n-grams up to {model.order} words, from {len(texts)} transcripts")


if __name__ == "__main__":
    run(main)
