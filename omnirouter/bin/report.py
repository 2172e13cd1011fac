"""Write a report on experiments: a folder whose index.html a browser opens from disk, without a network."""

import argparse
from pathlib import Path

from omnirouter.analysis.report.write import LARGE_BYTES, ReportOptions, write_report
from omnirouter.bin._main import run
from omnirouter.data.files import named_folder
from omnirouter.scoring.results import HEADLINES


def main() -> None:
    """Parse the command line and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("exp", type=named_folder, nargs="+", help="experiment directories, in the order of the report")
    parser.add_argument("--output", type=Path, required=True, help="folder to write (an earlier report is replaced)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        dest="sets",
        help="set to report on, repeatable (default: all scored)",
    )
    parser.add_argument(
        "--data",
        type=named_folder,
        action="append",
        default=[],
        help="data directory of the set of its name, for audio, speakers and lengths "
        "(default: data/SET beside exp/), repeatable",
    )
    parser.add_argument("--no-audio", action="store_true", help="leave out the audio and the waveforms")
    parser.add_argument(
        "--headline",
        choices=list(HEADLINES),
        default="raw",
        help="rate that leads the table, with its interval: raw (default), or whisper (by its English normaliser)",
    )
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    args = parser.parse_args()
    options = ReportOptions(args.sets, args.data, not args.no_audio, args.headline, args.allow_pipes)
    size = write_report(args.exp, args.output, options)
    print(f"{args.output / 'index.html'} is written, {size / 1e6:.1f} MB with its data: open it in a browser")
    if size > LARGE_BYTES:
        print("fewer sets (--set NAME) or fewer experiments make it smaller")


if __name__ == "__main__":
    run(main)
