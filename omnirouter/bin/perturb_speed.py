"""Write a data directory with the utterances of another and copies of them at other speeds (ids `sp0.9-<utt>`)."""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.data.errors import UserError
from omnirouter.data.perturb import perturb_data_dir


def main() -> None:
    """Perturb one data directory."""
    parser = argparse.ArgumentParser(prog="python -m omnirouter.bin.perturb_speed", description=__doc__)
    parser.add_argument("data_dir", type=Path, metavar="DIR", help="data directory to copy from")
    parser.add_argument("--factors", default="0.9 1.1", help="speeds of the copies, 1.1 is faster (default: 0.9 1.1)")
    parser.add_argument("--output", required=True, type=Path, metavar="DIR", help="data directory to write")
    parser.add_argument("--allow-pipes", action="store_true", help="accept shell commands in wav.scp")
    args = parser.parse_args()
    try:
        factors = [float(factor) for factor in args.factors.split()]
    except ValueError as error:
        raise UserError(f"--factors {args.factors!r}: {error}; give numbers, such as '0.9 1.1'") from error
    perturb_data_dir(args.data_dir, args.output, factors, args.allow_pipes)


if __name__ == "__main__":
    run(main)
