"""Compute log-mel filter banks of a data directory (stage 2): 80 bands, 25 ms windows every 10 ms at 16 kHz, as Kaldi.

Writes archives and logs to --output, and feats.scp and utt2num_frames to the data directory. With --features on_the_fly
it writes utt2num_frames alone, from the headers of the audio, and removes feats.scp and archives: training and decoding
compute the same features from the audio where a data directory has no feats.scp. No transcripts are needed.

A feats.scp whose archives are not those that this command writes in --output is not removed, but moved to .backup/ in
the data directory, with its utt2num_frames.
"""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.data.counting import count_frames, run_count_job
from omnirouter.data.fbank import run_fbank_job, store_fbank
from omnirouter.data.fields import split_words


def _part(text: str) -> tuple[int, int]:
    """Read `J/N`, for argparse's `type`."""
    job, jobs = map(int, text.split("/"))
    if not 1 <= job <= jobs:
        raise argparse.ArgumentTypeError(f"{text} is no part: J counts from 1 to N")
    return job, jobs


def main() -> None:
    """Parse arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path, help="data directory")
    parser.add_argument("--output", type=Path, required=True, help="folder of the archives")
    parser.add_argument(
        "--features",
        choices=("stored", "compressed", "on_the_fly"),
        default="stored",
        help="32-bit values; Kaldi's compressed matrices of 8 bits (a quarter; off by 0.1 at most on AN4); or none",
    )
    parser.add_argument("--nj", type=int, default=1, help="parallel jobs")
    parser.add_argument("--job-prefix", default="", help="command before each job, such as 'srun --cpus-per-task=1'")
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    parser.add_argument(
        "--job", type=_part, help="J/N: do only the J-th of N parts, in this process (used by the jobs themselves)"
    )
    args = parser.parse_args()
    compressed = args.features == "compressed"
    if args.job:
        job, jobs = args.job
        if args.features == "on_the_fly":
            run_count_job(args.data_dir, args.output, job, jobs, args.allow_pipes)
        else:
            run_fbank_job(args.data_dir, args.output, job, jobs, args.allow_pipes, compressed)
    else:
        prefix = split_words(args.job_prefix, "--job-prefix")
        if args.features == "on_the_fly":
            frames = count_frames(args.data_dir, args.output, args.nj, prefix, args.allow_pipes)
        else:
            frames = store_fbank(args.data_dir, args.output, args.nj, prefix, args.allow_pipes, compressed)
        print(f"{args.data_dir}: {frames} frames, {frames / 360000:.2f} h")


if __name__ == "__main__":
    run(main)
