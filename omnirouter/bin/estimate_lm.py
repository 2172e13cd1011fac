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
    parser.add_argument("--dev", type=Path, help="data directory whose transcripts' perplexity to print as well")
    args = parser.parse_args()
    texts = [text for data_dir in args.data_dirs for text in _sentences(data_dir)]
    held_out = _sentences(args.dev) if args.dev else []
    model = estimate_ngram(texts, args.order)
    model.write_arpa(args.output)
    print(f"{args.output}: {len(model.log_probs)} n-grams up to {model.order} words, from {len(texts)} transcripts")
    if args.dev:
        unknown = model.unknown(held_out)
        print(f"{args.dev}: perplexity {model.perplexity(held_out):.1f}, {unknown:.1%} of the words unknown")


def _sentences(data_dir: Path) -> list[list[str]]:
    return [text.split() for text in read_table(data_dir / "text").values()]


if __name__ == "__main__":
    run(main)
