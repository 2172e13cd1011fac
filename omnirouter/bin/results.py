"""Write the table of all results below an experiment directory to its RESULTS.md, or to another page; print it."""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.scoring.result_table import BEGIN, END, write_results
from omnirouter.scoring.results import HEADLINES


def main() -> None:
    """Parse the command line, write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exp", type=Path, help="directory of the experiments: every exp/*/decode_*/score is a row")
    parser.add_argument(
        "--headline",
        choices=list(HEADLINES),
        default="raw",
        help="rate that leads the table, with its interval: raw (default), or whisper (by its English normaliser)",
    )
    parser.add_argument(
        "--output",
        type=Path,
        help=f"a page, such as a recipe's RESULTS.md, whose text between the lines {BEGIN} and {END} is replaced "
        "(default: EXP/RESULTS.md, the whole file)",
    )
    parser.add_argument("--experiments", nargs="+", metavar="NAME", help="those to show (default: all)")
    args = parser.parse_args()
    print(write_results(args.exp, args.headline, args.output, args.experiments))


if __name__ == "__main__":
    run(main)
