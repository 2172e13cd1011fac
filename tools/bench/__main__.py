"""Command line of the benchmarks: runs them, prints their tables, and appends them to a file."""

import argparse
import importlib
import shlex
import sys
from pathlib import Path

from bench.settings import Settings, machine
from omnirouter.bin._main import run
from omnirouter.training.devices import choose_device, set_threads

BENCHES = {
    "moe_ffn": "a mixture-of-experts layer against a dense one and against peers",
    "train_step": "a training step of each model of the paper",
    "fbank": "filter banks from FLAC to ark against peers",
    "decode": "greedy decoding against the bare encoder",
    "score": "error rates of 100 000 utterances with their intervals, and all of their scoring",
    "sampler": "the batch sampler at 11 million utterances",
}


def main() -> None:
    """Parse arguments, run the benchmarks asked for, print and append their tables."""
    args = _parse()
    device = choose_device({"cpu": 0, "cuda": 1, None: None}[args.device])
    set_threads(args.threads)
    settings = Settings(device, args.repeats, args.quick, args.corpus_dir, args.config)
    command = shlex.join(["tools/bench/run", *sys.argv[1:]])
    _give(f"## {', '.join(args.benches)}\n\n{machine(device, command)}\n", args.output)
    for name in args.benches:
        for report in importlib.import_module(f"bench.{name}").run(settings):
            _give(report.markdown(), args.output)


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="tools/bench/run", description=__doc__)
    listed = "; ".join(f"{name}: {what}" for name, what in BENCHES.items())
    parser.add_argument("benches", nargs="*", metavar="BENCH", help=f"default: all. {listed}")
    parser.add_argument("--quick", action="store_true", help="small problems, to see that it works")
    parser.add_argument("--repeats", type=int, default=15, help="most rounds of each comparison (default: 15)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: a GPU if there is one")
    parser.add_argument("--threads", type=int, default=0, help="CPU threads (default: OMP_NUM_THREADS, or all cores)")
    parser.add_argument("--corpus-dir", type=Path, help="folder with LibriSpeech/ in FLAC, for fbank")
    parser.add_argument(
        "--config", type=Path, nargs="+", default=[], help="for train_step (default: egs/libriheavy/asr1/conf)"
    )
    parser.add_argument("--output", type=Path, help="also append the tables to this file")
    args = parser.parse_args()
    args.benches = args.benches or list(BENCHES)
    unknown = sorted(set(args.benches) - set(BENCHES))
    if unknown or args.repeats < 1:
        parser.error(f"no benchmark {', '.join(unknown)}; there are {', '.join(BENCHES)}" if unknown else "--repeats")
    return args


def _give(text: str, output: Path | None) -> None:
    print(text, flush=True)
    if output is not None:
        with open(output, "a", encoding="utf-8") as file:
            file.write(text + "\n")


if __name__ == "__main__":
    run(main)
