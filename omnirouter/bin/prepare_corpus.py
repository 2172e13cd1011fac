"""Stage 1: turn a corpus into Kaldi-style data directories, `OUTPUT/<set>/`."""

import argparse
import os
from pathlib import Path

from omnirouter.bin._main import count, run
from omnirouter.corpora.libriheavy import SUBSETS, TEXTS
from omnirouter.corpora.librispeech import TRAIN_PARTS


def get_parser() -> argparse.ArgumentParser:
    """Return the parser: one sub-command a corpus."""
    parser = argparse.ArgumentParser(prog="python -m omnirouter.bin.prepare_corpus", description=__doc__)
    corpora = parser.add_subparsers(dest="corpus", required=True, metavar="CORPUS")
    _add_mini(corpora)
    an4 = _add(corpora, "an4", "CMU AN4: train, dev (whole speakers held out from train) and its official test set")
    _add_corpus_dir(an4, "downloads/an4", "holds etc/ and wav/")
    for hours in TRAIN_PARTS:
        libri = _add(corpora, f"librispeech_{hours}", f"train_{hours}, dev (both), dev_* and test_* of LibriSpeech")
        _add_corpus_dir(libri, "downloads/LibriSpeech", "holds train-clean-100/ …, itself or in LibriSpeech/")
        libri.set_defaults(hours=hours)
    _add_libriheavy(corpora)
    libri = _add(corpora, "mini_librispeech", "train_clean_5, dev_clean_2, and test_seg, which is cut by segments")
    _add_corpus_dir(libri, "downloads/LibriSpeech", "holds train-clean-5/ and dev-clean-2/, itself or in LibriSpeech/")
    _add_audio_dir(libri, "where the long recordings of test_seg go")
    kaldi = _add(corpora, "kaldi", "your own corpus: DIR/<set>/ are Kaldi data directories; checked, completed, copied")
    kaldi.add_argument("--corpus-dir", type=Path, required=True, help="holds train/, dev/, …, each with wav.scp …")
    kaldi.add_argument("--sets", nargs="+", default=[], metavar="SET", help="those to take; without it, all in DIR")
    kaldi.add_argument(
        "--deep",
        action=argparse.BooleanOptionalAction,
        help="decode every audio file, not only its header (default: if there are fewer than 10 000 utterances)",
    )
    kaldi.add_argument("--allow-pipes", action="store_true", help="accept wav.scp entries that are shell commands")
    kaldi.add_argument("--paths-from", type=Path, default=Path(), help="relative paths in wav.scp are relative to this")
    return parser


def _add(corpora: argparse._SubParsersAction, name: str, help: str) -> argparse.ArgumentParser:
    parser = corpora.add_parser(
        name, help=help, description=help, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--output", type=Path, default=Path("data"), help="parent of the data directories")
    return parser


def _add_corpus_dir(parser: argparse.ArgumentParser, default: str, content: str) -> None:
    parser.add_argument("--corpus-dir", type=Path, default=Path(default), help=f"the corpus as published: {content}")


def _add_audio_dir(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--audio-dir", type=Path, default=Path("wavs"), help=f"{help}: AUDIO_DIR/<set>/*.flac")


def _add_libriheavy(corpora: argparse._SubParsersAction) -> None:
    for subset in SUBSETS:
        for name in (f"libriheavy_{subset}", f"libriheavy_{subset}_librispeech"):  # as they are downloaded
            heavy = _add(corpora, name, f"train_{subset} of Libriheavy, dev (both), dev_* and test_* of LibriSpeech")
            _add_corpus_dir(heavy, "downloads", "holds libriheavy/ (the manifests), librilight/ and LibriSpeech/")
            heavy.add_argument("--librispeech-dir", type=Path, help="where LibriSpeech is, if not there")
            heavy.add_argument("--text", choices=TEXTS, default="upper", help="capitals only, or as printed")
            heavy.set_defaults(subset=subset)


def _add_mini(corpora: argparse._SubParsersAction) -> None:
    mini = _add(corpora, "mini", "synthetic English commands, made here with eSpeak NG: train, dev and test")
    _add_audio_dir(mini, "where the audio goes")
    mini.add_argument("--train-utterances", type=count, default=8000, help="about 1.6 s each")
    mini.add_argument("--dev-utterances", type=count, default=400, help="4.5 words each on average")
    mini.add_argument("--test-utterances", type=count, default=2300, help="4.5 words each on average")
    mini.add_argument("--seed", type=int, default=0, help="same seed, same bytes")
    mini.add_argument("--nj", type=count, default=os.cpu_count() or 1, help="parallel processes")


def main() -> None:
    """Prepare the corpus of the sub-command; imports only what that corpus needs."""
    args = get_parser().parse_args()
    if args.corpus == "mini":
        from omnirouter.corpora.mini import prepare_mini

        counts = {"test": args.test_utterances, "dev": args.dev_utterances, "train": args.train_utterances}
        prepare_mini(args.output, args.audio_dir, counts, args.seed, args.nj)
    elif args.corpus == "an4":
        from omnirouter.corpora.an4 import prepare_an4

        prepare_an4(args.corpus_dir, args.output)
    elif args.corpus.startswith("librispeech_"):
        from omnirouter.corpora.librispeech import prepare_librispeech

        prepare_librispeech(args.corpus_dir, args.output, args.hours)
    elif args.corpus.startswith("libriheavy_"):
        from omnirouter.corpora.libriheavy import prepare_libriheavy

        prepare_libriheavy(args.corpus_dir, args.output, args.subset, args.text, args.librispeech_dir)
    elif args.corpus == "mini_librispeech":
        from omnirouter.corpora.mini_librispeech import prepare_mini_librispeech

        prepare_mini_librispeech(args.corpus_dir, args.output, args.audio_dir)
    else:
        from omnirouter.corpora.kaldi import prepare_kaldi

        prepare_kaldi(args.corpus_dir, args.output, args.sets, args.deep, args.allow_pipes, args.paths_from)


if __name__ == "__main__":
    run(main)
