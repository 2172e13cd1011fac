"""Compare two experiments on one set: difference of their error rates, its intervals, and whether it is significant.

python -m omnirouter.bin.compare switch dense --set test
python -m omnirouter.bin.compare exp/switch/decode_test exp/dense/decode_test
python -m omnirouter.bin.compare switch,switch_seed2,switch_seed3 dense,dense_seed2,dense_seed3 --set test
"""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.scoring.compare import compare
from omnirouter.scoring.report import RATE_FILES


def main() -> None:
    """Parse the command line and print the comparison."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for letter in "AB":
        parser.add_argument(
            letter, type=lambda text: text.split(","), help="experiment or its decode_SET, or those of several seeds"
        )
    parser.add_argument("--set", help="test set, where A and B are experiments")
    parser.add_argument("--exp", type=Path, default=Path("exp"), help="where names are looked up (default: exp)")
    parser.add_argument(
        "--rate",
        choices=list(RATE_FILES),
        default="wer",
        help="; ".join(f"{name}: {what}" for name, what in RATE_FILES.items()) + " (default: wer)",
    )
    args = parser.parse_args()
    print(compare(args.A, args.B, args.set, args.exp, args.rate))


if __name__ == "__main__":
    run(main)
