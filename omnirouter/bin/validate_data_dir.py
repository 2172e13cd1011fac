"""Check data directories and report every problem at once, with file, line and remedy; exit status 1 if any."""

import argparse
import sys
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.data.errors import UserError
from omnirouter.data.validate import validate_data_dirs


def main() -> None:
    """Print a summary of each good directory, or all problems."""
    parser = argparse.ArgumentParser(prog="python -m omnirouter.bin.validate_data_dir", description=__doc__)
    parser.add_argument("data_dirs", nargs="+", type=Path, metavar="DIR", help="Kaldi-style data directory")
    parser.add_argument(
        "--deep",
        action=argparse.BooleanOptionalAction,
        help="decode every audio file, not only its header (default: if there are fewer than 10 000 utterances)",
    )
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands in wav.scp lines that end in `|`"
    )
    args = parser.parse_args()

    reports = validate_data_dirs(args.data_dirs, args.deep, args.allow_pipes)
    for report in reports:
        for problem in report.problems:
            print(problem, file=sys.stderr)
        if report.is_good:
            print(report)
    bad = [report for report in reports if not report.is_good]
    if bad:
        problems = sum(not problem.is_warning for report in bad for problem in report.problems)
        raise UserError(f"problems in data directories: {problems} in {', '.join(str(report.path) for report in bad)}")


if __name__ == "__main__":
    run(main)
