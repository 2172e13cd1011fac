"""Analyse the routing of a trained model on a data directory (stage 7): writes EXP/routing_SET/.

routing.{txt,json}: load, certainty and agreement by layer; experts.npz: the expert of each token in each layer.
"""

import argparse
import json
from pathlib import Path

from omnirouter.analysis.assignments import write_assignments
from omnirouter.analysis.routing import analyse_routing, routing_json, routing_table
from omnirouter.bin._main import positive, run
from omnirouter.data.dataset import ordered_batches, read_feature_dir
from omnirouter.data.files import atomic_dir
from omnirouter.training.devices import choose_device
from omnirouter.training.experiment import load_experiment


def main() -> None:
    """Parse arguments and analyse."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--exp", type=Path, required=True, help="finished experiment directory")
    parser.add_argument("--data", type=Path, required=True, help="data directory after stage 2")
    parser.add_argument("--batch-s", type=positive, default=200.0, help="most padded audio in a batch, in seconds")
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs to use (default: one if there is one)")
    args = parser.parse_args()
    device = choose_device(args.ngpu)
    model, _ = load_experiment(args.exp)
    utterances = read_feature_dir(args.data, args.allow_pipes, model.encoder.config.n_mels)
    routing = analyse_routing(model.to(device), ordered_batches(utterances, args.batch_s))
    if routing is None:
        print(f"{args.exp}: a dense encoder has no routing to analyse")
        return
    table = routing_table(routing.layers)
    with atomic_dir(args.exp / f"routing_{args.data.name}") as folder:
        (folder / "routing.txt").write_text(table, encoding="utf-8")
        content = json.dumps(routing_json(routing.layers), indent=1) + "\n"
        (folder / "routing.json").write_text(content, encoding="utf-8")
        write_assignments(folder / "experts.npz", routing.assignments)
    print(table, end="")


if __name__ == "__main__":
    run(main)
