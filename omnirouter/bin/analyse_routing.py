"""Analyse the routing of a trained model on a data directory (stage 7): writes EXP/routing_SET/.

routing.{txt,json}: load, certainty and agreement by layer. experts.npz: the expert of each token in each layer.
fig2_UTT: spectrogram over experts. fig4_contingency, fig5_cramers_v: agreement of layers. hearing: what experts hear.
"""

import argparse

from omnirouter.analysis.routing import analyse_routing, routing_table, transcripts
from omnirouter.analysis.set_figures import wanted_utterances, write_set
from omnirouter.analysis.subject import Subject
from omnirouter.bin._main import count, positive, run
from omnirouter.data.dataset import ordered_batches, read_feature_dir
from omnirouter.data.files import atomic_dir, named_folder
from omnirouter.training.devices import choose_device
from omnirouter.training.experiment import load_experiment


def main() -> None:
    """Parse arguments and analyse."""
    args = _parser().parse_args()
    device = choose_device(args.ngpu)
    model, tokenizer = load_experiment(args.exp)
    config = model.encoder.config
    utterances = read_feature_dir(args.data, args.allow_pipes, config.n_mels)
    shown = wanted_utterances(utterances, args.utts, args.random_utts, args.seed, config.stack_frames)
    batches = ordered_batches(utterances, args.batch_s)
    routing = analyse_routing(model.to(device), batches, transcripts(utterances, tokenizer))
    if routing is None:
        print(f"{args.exp}: a dense encoder has no routing to analyse")
        return
    subject = Subject(args.exp.name, config, routing.assignments)
    with atomic_dir(args.exp / f"routing_{args.data.name}") as folder:
        write_set(folder, subject, routing, tokenizer, args.data, shown, args.layers)
    print(routing_table(routing.layers), end="")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--exp", type=named_folder, required=True, help="finished experiment directory")
    parser.add_argument("--data", type=named_folder, required=True, help="data directory after stage 2")
    parser.add_argument(
        "--utts", nargs="+", default=[], metavar="UTT", help="utterances to draw (default: random ones)"
    )
    parser.add_argument("--random-utts", type=count, default=3, help="how many random utterances to draw (default: 3)")
    parser.add_argument("--seed", type=int, default=0, help="of the random utterances (default: 0)")
    parser.add_argument(
        "--layers", type=int, nargs=2, metavar="L", help="layers of the contingency table (default: below the topmost)"
    )
    parser.add_argument("--batch-s", type=positive, default=200.0, help="most padded audio in a batch, in seconds")
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs to use (default: one if there is one)")
    return parser


if __name__ == "__main__":
    run(main)
