"""Train a CTC model (stage 4), or go on with an unfinished training of the same experiment directory."""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.data.fields import split_words
from omnirouter.training.config import load_config
from omnirouter.training.devices import choose_device
from omnirouter.training.experiment import Inputs
from omnirouter.training.run import train


def main() -> None:
    """Parse arguments and train."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML configuration")
    parser.add_argument("--set", default="", help="overrides, such as 'model.experts=2 optim.lr=1e-3'")
    parser.add_argument("--train", type=Path, required=True, help="data directory with features to train on")
    parser.add_argument("--dev", type=Path, required=True, help="data directory with features to validate on")
    parser.add_argument("--lang", type=Path, required=True, help="language directory of stage 3")
    parser.add_argument("--exp", type=Path, required=True, help="experiment directory")
    parser.add_argument("--init", type=Path, help="experiment directory whose weights to start from")
    parser.add_argument("--restart", action="store_true", help="delete the experiment directory and begin anew")
    parser.add_argument(
        "--allow-pipes", action="store_true", help="run the shell commands of wav.scp lines ending in |"
    )
    parser.add_argument("--ngpu", type=int, choices=(0, 1), help="GPUs to use (default: one if there is one)")
    args = parser.parse_args()
    config = load_config(args.config, split_words(args.set, "--set"))
    inputs = Inputs(args.train, args.dev, args.lang, args.init, args.allow_pipes)
    train(args.exp, config, inputs, choose_device(args.ngpu), args.restart)


if __name__ == "__main__":
    run(main)
