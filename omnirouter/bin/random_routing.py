"""Decode a set while a share p of its tokens goes to random experts: writes EXP/random_routing_SET/.

Greedy decoding, once without and then for each share and draw. wer.json: the error rates. fig3_random_routing: the
paper's Fig. 3 of this experiment; `python -m omnirouter.bin.figures` draws several in one.
"""

import argparse

from omnirouter.analysis.random_routing import DRAWS, SCALES, RandomRouting, as_json, measure
from omnirouter.analysis.set_figures import write_random_routing
from omnirouter.analysis.subject import title_of
from omnirouter.bin._main import count, positive, run
from omnirouter.data.dataset import read_feature_dir
from omnirouter.data.files import atomic_dir, named_folder
from omnirouter.scoring.results import HEADLINES
from omnirouter.training.devices import choose_device
from omnirouter.training.experiment import load_experiment


def main() -> None:
    """Parse arguments and decode."""
    args = _parser().parse_args()
    device = choose_device(args.ngpu)
    model, tokenizer = load_experiment(args.exp)
    utterances = read_feature_dir(args.data, args.allow_pipes, model.encoder.config.n_mels)
    options = RandomRouting(0.0, draw=args.draw, may_keep=args.may_keep, scale=args.scale)
    points = measure(
        model.to(device), tokenizer, utterances, args.shares, range(args.draws), options, args.headline, args.batch_s
    )
    title, measured = title_of(args.exp.name, model.encoder.config), as_json(points, options, args.headline)
    with atomic_dir(args.exp / f"random_routing_{args.data.name}") as folder:
        write_random_routing(folder, title, args.data.name, measured)
    for point in points:
        change = f"{point.change_percent:+8.1f} %, {100 * point.changed_share:5.1f} % of decisions changed"
        print(f"p {point.share:4.2f}  draw {point.seed}  WER {point.wer:6.2f} %  {change}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--exp", type=named_folder, required=True, help="finished experiment directory")
    parser.add_argument(
        "--data", type=named_folder, required=True, help="data directory after stage 2, with transcripts"
    )
    parser.add_argument(
        "--shares", type=_share, nargs="+", default=[0.2, 0.4, 0.6, 0.8, 1.0], help="shares p of tokens sent elsewhere"
    )
    parser.add_argument("--draws", type=count, default=3, help="decodings of each share, with other random numbers")
    parser.add_argument(
        "--draw", choices=DRAWS, default="layer", help="in each layer by itself, or a token in all layers or none"
    )
    parser.add_argument(
        "--may-keep",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="draw among all experts, or with --no-may-keep among all but the token's own",
    )
    parser.add_argument(
        "--scale", choices=SCALES, default="drawn", help="scale the output by the drawn expert's probability, or not"
    )
    parser.add_argument(
        "--headline",
        choices=list(HEADLINES),
        default="raw",
        help="WER of the texts as they are, or by Whisper's English normaliser",
    )
    parser.add_argument("--batch-s", type=positive, default=200.0, help="most padded audio in a batch, in seconds")
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs to use (default: one if there is one)")
    return parser


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"must lie in 0 … 1, is {text}")
    return value


if __name__ == "__main__":
    run(main)
