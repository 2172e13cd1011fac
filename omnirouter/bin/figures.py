"""Draw the paper's figures 2 to 6 of several experiments on one set, each as DIR/NAME.png with its data, NAME.json.

    python -m omnirouter.bin.figures exp/switch exp/omnirouter --set test --output exp/figures_test

Reads what training and stage 7 have made; nothing is decoded. Fig. 3 is drawn where `random_routing` has measured it.
Without --set, only what is of no single set: Fig. 6, routing in training, and the load on all sets analysed.
"""

import argparse
from pathlib import Path

from omnirouter.analysis.comparison import write_comparison
from omnirouter.bin._main import run
from omnirouter.data.files import named_folder


def main() -> None:
    """Parse arguments and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("exps", type=named_folder, nargs="+", metavar="EXP", help="experiment directories")
    parser.add_argument("--set", help="data set of Fig. 2 to 5, by the name of its directory, such as test")
    parser.add_argument("--output", type=Path, required=True, help="directory for the figures")
    parser.add_argument(
        "--layers", type=int, nargs=2, metavar="L", help="layers of the contingency table (default: below the topmost)"
    )
    args = parser.parse_args()
    for left_out in write_comparison(args.exps, args.set, args.output, args.layers):
        print(f"left out: {left_out}")
    print(f"{args.output}: {len(list(args.output.glob('*.png')))} figures")


if __name__ == "__main__":
    run(main)
