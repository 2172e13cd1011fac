"""Check a configuration and its overrides, as training will read them; a recipe does so before its first stage."""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.data.fields import split_words
from omnirouter.training.config import load_config


def main() -> None:
    """Parse arguments and check; a mistake ends with exit status 1, nothing is printed otherwise."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="YAML configuration")
    parser.add_argument("--variant", default="", help="name of one of its variants")
    parser.add_argument("--set", default="", help="overrides, such as 'model.experts=2 optim.lr=1e-3'")
    args = parser.parse_args()
    load_config(args.config, split_words(args.set, "--set"), args.variant)


if __name__ == "__main__":
    run(main)
