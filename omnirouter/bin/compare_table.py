"""Write one table of several models on several sets, with intervals and significance, and print it.

python -m omnirouter.bin.compare_table exp/dense exp/switch exp/omnirouter --output exp/COMPARE.md
python -m omnirouter.bin.compare_table exp/dense_seed1,exp/dense_seed2 exp/switch_seed1,exp/switch_seed2 …
"""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.scoring.compare_table import write_comparison
from omnirouter.scoring.results import HEADLINES


def main() -> None:
    """Parse the command line, write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models",
        nargs="+",
        type=lambda text: list(map(Path, text.split(","))),
        metavar="EXP[,EXP…]",
        help="experiments of a column, several where they are seeds of one; the first column is the baseline",
    )
    parser.add_argument("--headline", choices=list(HEADLINES), default="raw", help="word error rate (default: raw)")
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    print(write_comparison(args.models, args.headline, args.output))


if __name__ == "__main__":
    run(main)
