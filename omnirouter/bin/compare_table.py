"""Write one table of several models on several sets, with intervals and significance, and print it.

python -m omnirouter.bin.compare_table exp/dense exp/switch exp/omnirouter --output exp/COMPARE.md
python -m omnirouter.bin.compare_table exp/dense_seed1,exp/dense_seed2 exp/switch_seed1,exp/switch_seed2 …
python -m omnirouter.bin.compare_table exp/dense_small exp/switch_small --size exp/dense_large exp/switch_large …
"""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.data.files import named_folder
from omnirouter.scoring.compare_table import write_comparison
from omnirouter.scoring.results import HEADLINES


def main() -> None:
    """Parse the command line, write the table and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "models",
        nargs="+",
        type=_column,
        metavar="EXP[,EXP…]",
        help="experiments of a column, several where they are seeds of one; the first column is the baseline",
    )
    parser.add_argument(
        "--size",
        nargs="+",
        action="append",
        default=[],
        type=_column,
        metavar="EXP[,EXP…]",
        help="columns of models of another size, the first being the baseline of these; may be repeated",
    )
    parser.add_argument(
        "--headline",
        choices=list(HEADLINES),
        default="raw",
        help="word error rate: raw (default), or whisper (by its English normaliser)",
    )
    parser.add_argument("--output", type=Path, required=True, help="file to write")
    args = parser.parse_args()
    print(write_comparison([args.models, *args.size], args.headline, args.output))


def _column(text: str) -> list[Path]:
    return list(map(named_folder, text.split(",")))


if __name__ == "__main__":
    run(main)
