"""Score hypotheses: raw and Whisper-normalised word error rate, character error rate, with Kaldi-style details."""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.scoring.report import ALIGNERS, headlines, score_decoding


def main() -> None:
    """Parse the command line and score one decoded set."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True, help="data directory with the reference: text, utt2spk")
    parser.add_argument("--hyp", type=Path, required=True, help="hypotheses: a line 'utt-id words…' for each utterance")
    parser.add_argument(
        "--output",
        type=Path,
        required=True,
        help="directory to write (replaced if it exists): wer, wer_whisper, cer, per_utt, per_spk, ops, confusions, "
        "utt2errors, and wer_by_duration where --data has utt2dur",
    )
    parser.add_argument(
        "--align",
        choices=list(ALIGNERS),
        default="unit",
        help="; ".join(f"{name}: {what}" for name, (_, what) in ALIGNERS.items()) + " (default: unit)",
    )
    args = parser.parse_args()
    print(headlines(score_decoding(args.data, args.hyp, args.output, args.align)))


if __name__ == "__main__":
    run(main)
