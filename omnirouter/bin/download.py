"""Stage 0: download a public corpus, verified and extracted; interrupted downloads go on where they were."""

import argparse
from pathlib import Path

from omnirouter.bin._main import run
from omnirouter.corpora.download import CORPORA, download_corpus
from omnirouter.data.errors import UserError


def main() -> None:
    """Download the archives of a corpus that are not there yet."""
    parser = argparse.ArgumentParser(prog="python -m omnirouter.bin.download", description=__doc__)
    parser.add_argument("corpus", choices=[*CORPORA, "mini", "kaldi"], help="mini is made, not downloaded")
    parser.add_argument("--output", type=Path, default=Path("downloads"), help="where archives and corpora go")
    args = parser.parse_args()

    if args.corpus == "mini":
        print("mini: nothing to download, stage 1 makes it on this machine")
    elif args.corpus == "kaldi":
        raise UserError("your own corpus is not downloaded; give the folder of its data directories as --corpus-dir")
    else:
        download_corpus(CORPORA[args.corpus], args.output)


if __name__ == "__main__":
    run(main)
