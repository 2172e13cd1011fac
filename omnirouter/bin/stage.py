"""Run one step of a recipe, or pass it over when it is up to date.

    python -m omnirouter.bin.stage --name "2 fbank train" --record data/.stage/fbank_train.json \\
        --from 1 data/train/wav.scp --output data/train/feats.scp \\
        -- python -m omnirouter.bin.compute_fbank data/train --output fbank/train -- --nj 4

The command stands after `--`. What follows a second `--` is passed to it too, but does not change its result, so that
changing it does not make the step run again.
"""

import argparse
import shlex
import sys
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.data.jobs import bind_to_parent
from omnirouter.data.stage import INTERRUPTED, Stage, run_stage


def main() -> None:
    options, rest = _cut(sys.argv[1:])
    command, neutral = _cut(rest)
    args = _parser().parse_args(options)
    if not command:
        _parser().error("no command after --")
    bind_to_parent(args.parent)
    code = run_stage(_stage(args, command, neutral), args.force)
    if code != 0:
        how = "interrupted; the same command goes on" if code == INTERRUPTED else f"failed (exit code {code})"
        print(f"error: stage {args.name} {how}", file=sys.stderr)
    sys.exit(code)


def _cut(words: list[str]) -> tuple[list[str], list[str]]:
    """Return what stands before the first `--` and what stands after it."""
    at = words.index("--") if "--" in words else len(words)
    return words[:at], words[at + 1 :]


def _stage(args: argparse.Namespace, command: list[str], neutral: list[str]) -> Stage:
    made = {path: stage for stage, *paths in args.made for path in paths}
    return Stage(
        name=args.name,
        command=tuple(command),
        neutral=tuple(neutral),
        inputs={**made, **dict.fromkeys(args.given)},
        optional_inputs=tuple(args.optional),
        audio_of=tuple(args.audio_of),
        outputs=tuple(args.output),
        optional_outputs=tuple(args.optional_output),
        output_audio_of=tuple(args.output_audio_of),
        record=args.record,
        prefix=tuple(shlex.split(args.prefix)),
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        "python -m omnirouter.bin.stage",
        usage="%(prog)s --name NAME [options] -- COMMAND [ARGUMENT …] [-- NEUTRAL_ARGUMENT …]",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--name", required=True, help="number and words, as in '2 fbank train'")
    parser.add_argument("--record", type=Path, help="where to keep the fingerprint; without it the step always runs")
    parser.add_argument(
        "--from",
        dest="made",
        action="append",
        nargs="+",
        default=[],
        metavar=("STAGE", "FILE"),
        help="inputs (files or directories) and the number of the stage that makes them; may be repeated",
    )
    for option, text in (
        ("--given", "inputs that no stage makes"),
        ("--optional", "inputs that may be absent"),
        ("--audio-of", "tables such as wav.scp, whose audio files are inputs"),
        ("--output", "what the command makes"),
        ("--optional-output", "what the command may make"),
        ("--output-audio-of", "tables such as wav.scp, whose audio files have to stay as the command left them"),
    ):
        parser.add_argument(option, action="extend", nargs="*", default=[], metavar="FILE", help=text)
    parser.add_argument("--prefix", default="", help="goes before the command and does not count, as in 'srun -c 4'")
    parser.add_argument("--force", action="store_true", help="run the step even when it is up to date")
    parser.add_argument("--parent", type=int, metavar="PID", help="process that starts this one: do not outlive it")
    return parser


if __name__ == "__main__":
    run(main)
