"""Compute log-mel filter banks of a data directory (stage 2): 80 bands, 25 ms windows every 10 ms at 16 kHz, as Kaldi.

Writes archives and logs to --output, and feats.scp and utt2num_frames to the data directory.
"""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.data.fbank import run_fbank_job, store_fbank
from omnirouter.data.fields import split_words


def main() -> None:
    """Parse arguments and compute."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data_dir", type=Path, help="data directory")
    parser.add_argument("--output", type=Path, required=True, help="folder of the archives")
    parser.add_argument("--nj", type=int, default=1, help="parallel jobs")
    parser.add_argument("--job-prefix", default="", help="command before each job, such as 'srun --cpus-per-task=1'")
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    parser.add_argument("--job", help="J/N: do only the J-th of N parts, in this process (used by the jobs themselves)")
    args = parser.parse_args()
    if args.job:
        job, jobs = map(int, args.job.split("/"))
        run_fbank_job(args.data_dir, args.output, job, jobs, args.allow_pipes)
    else:
        prefix = split_words(args.job_prefix, "--job-prefix")
        frames = store_fbank(args.data_dir, args.output, args.nj, prefix, args.allow_pipes)
        print(f"{args.data_dir}: {frames} frames, {frames / 360000:.2f} h")


if __name__ == "__main__":
    run(main)
