#!/usr/bin/env python
"""Makes a training set of millions of utterances, and measures what it costs to start training on it.

    python tools/large_set.py make DIR [--utterances N]
    python tools/large_set.py stages DIR
    python tools/large_set.py measure DIR [--workers N]

`make` writes DIR/data: segments of some hour-long FLAC files of noise, about 16 s each, with made-up transcripts of 40
words and speakers of 1000 utterances, and DIR/lang, a BPE tokenizer. For 11 million utterances, as Libriheavy large
has, it takes about 5 GB. `stages` prints the time and the most memory that stage 1's validation, stage 2's check of the
tables and one of its jobs (which computes 100 utterances), and stage 3 take. `measure` builds the index, to which the
feature statistics belong, then prints for a training that begins, and for one that goes on in the middle of an epoch:
the seconds to the first batch, and the memory that is added to a process with everything imported and an empty
trainer's model made. They are those of all that a start does with its data, the inputs' digests and the loading of the
largest batches in the training process among it; the rehearsal of a step of each of these, reading a checkpoint and the
dev set are not in them. Pages of the index, which all processes share, are not counted. Linux only.
"""

import argparse
import multiprocessing
import resource
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, TextIO

import numpy as np
import soundfile

from omnirouter.data.files import atomic_dir
from omnirouter.data.index import Index, open_index
from omnirouter.data.tokenizer import Tokenizer, train_tokenizer

if TYPE_CHECKING:  # PyTorch is imported only where it is needed: the stages of the tables are measured without it
    from omnirouter.training.config import ExperimentConfig

RATE_HZ, HOUR_S, RECORDINGS = 16000, 3600, 4
BLOCK = 100_000
TABLES = ("text", "segments", "utt2num_frames", "utt2spk", "utt2dur", "spk2utt")
SPEAKER_UTTERANCES = 1000
STAGES = ("validation", "table_check", "fbank_job", "tokenizer")
STARTS = ("begin", "go_on")


def make(folder: Path, utterances: int) -> None:
    """Write recordings, tokenizer and data directory."""
    rng = np.random.default_rng(0)
    for i in range(RECORDINGS):
        path = folder / f"rec{i}.flac"
        path.parent.mkdir(parents=True, exist_ok=True)
        soundfile.write(path, rng.integers(-99, 99, HOUR_S * RATE_HZ, dtype=np.int16), RATE_HZ)
    syllables = [a + b for a in "BDFGKLMNPRSTVZ" for b in "AEIOU"]
    words = np.array(["".join(rng.choice(syllables, rng.integers(1, 4))) for _ in range(5000)])
    sentences = [" ".join(rng.choice(words, rng.integers(5, 75))) for _ in range(10_000)]
    train_tokenizer(sentences, "bpe", 2000, folder / "lang")
    with atomic_dir(folder / "data") as data:
        (data / "wav.scp").write_text("".join(f"rec{i} {folder.resolve()}/rec{i}.flac\n" for i in range(RECORDINGS)))
        with ExitStack() as stack:
            files = [stack.enter_context(open(data / name, "w")) for name in TABLES]
            for start in range(0, utterances, BLOCK):
                _write_block(range(start, min(start + BLOCK, utterances)), rng, sentences, files)


def _write_block(numbers: range, rng: np.random.Generator, sentences: list[str], files: list[TextIO]) -> None:
    """Write lines of all tables; times are of whole milliseconds, and so of whole samples."""
    text, segments, frames, utt2spk, utt2dur, spk2utt = files
    lengths_ms = rng.integers(2000, 30_000, len(numbers))
    begins_ms = rng.integers(0, 1000 * HOUR_S - lengths_ms).tolist()
    for i, begin, length in zip(numbers, begins_ms, lengths_ms.tolist(), strict=True):
        speaker = f"book{i // SPEAKER_UTTERANCES:05d}"
        key = f"{speaker}-chapter-{i % SPEAKER_UTTERANCES:03d}"
        text.write(f"{key} {sentences[i % len(sentences)]}\n")
        segments.write(f"{key} rec{i % RECORDINGS} {begin / 1000:.3f} {(begin + length) / 1000:.3f}\n")
        frames.write(f"{key} {1 + (16 * length - 400) // 160}\n")
        utt2spk.write(f"{key} {speaker}\n")
        utt2dur.write(f"{key} {length / 1000:.3f}\n")
        if i % SPEAKER_UTTERANCES == 0:
            spk2utt.write("\n" * bool(i) + speaker)
        spk2utt.write(f" {key}")


def stages(folder: Path) -> None:
    """Run what the first stages do with their tables, each in a process of its own."""
    for stage in STAGES:
        subprocess.run([sys.executable, __file__, stage, str(folder)], check=True)


def run_stage(folder: Path, stage: str) -> None:
    """Do what a stage does with the tables, and print the time and the memory that it took."""
    from omnirouter.data.datadir import check_tables
    from omnirouter.data.fbank import run_fbank_job
    from omnirouter.data.sources import utterance_ids
    from omnirouter.data.streams import read_values
    from omnirouter.data.validate import validate_data_dirs

    data, started_s = folder / "data", time.monotonic()
    if stage == "validation":
        print(*validate_data_dirs([data])[0].problems)
    elif stage == "table_check":
        check_tables(data, labelled=False)
    elif stage == "fbank_job":
        (folder / "fbank").mkdir(exist_ok=True)
        jobs = sum(map(len, utterance_ids(data))) // 100
        run_fbank_job(data, folder / "fbank", jobs, jobs)
    else:
        train_tokenizer(read_values(data / "text"), "bpe", 2000, folder / "lang_of_all")
    most_gb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6
    print(f"{stage}: {time.monotonic() - started_s:.0f} s, {most_gb:.2f} GB of memory at most", flush=True)


def measure(folder: Path, workers: int) -> None:
    """Build the index, then start twice in processes of their own, and print what each start costs."""
    from omnirouter.training.selection import add_drawn_stats

    started_s, indexed_s = time.monotonic(), []

    def complete(index: Index) -> None:
        indexed_s.append(time.monotonic() - started_s)
        add_drawn_stats(index, _config(workers))

    index = open_index(folder / "data", folder / "lang", complete=complete)
    total_s = time.monotonic() - started_s
    how = (
        f"built in {total_s:.0f} s, of which the statistics took {total_s - indexed_s[0]:.0f}" if indexed_s else "there"
    )
    print(f"index of {len(index)} utterances: {how}", flush=True)
    del index
    for start in STARTS:
        command = [sys.executable, __file__, start, str(folder), "--workers", str(workers)]
        subprocess.run(command, check=True)


def start_training(folder: Path, workers: int, start: str) -> None:
    """Do what training does with its data up to the first batch."""
    import torch

    from omnirouter.data.dataset import training_batches
    from omnirouter.data.features import FeatureStats
    from omnirouter.data.sampler import BucketSampler, Position
    from omnirouter.training.experiment import Inputs, build_model
    from omnirouter.training.rehearsal import for_largest_batches
    from omnirouter.training.selection import open_training_data
    from omnirouter.training.trainer import make_optimizer

    torch.set_num_threads(1)
    config = _config(workers)
    exp = folder / "exp"
    exp.mkdir(exist_ok=True)
    if not (exp / "lang").exists():
        (exp / "lang").symlink_to(folder.resolve() / "lang")
    model = build_model(config, Tokenizer(folder / "lang"), FeatureStats(np.zeros(80), np.ones(80), 1))
    make_optimizer(model, config.optim)
    before_mb, started_s = _memory_mb("self", "Anonymous"), time.monotonic()
    inputs = Inputs(folder / "data", folder / "data", folder / "lang")
    inputs.as_dict()
    digests_s = time.monotonic() - started_s
    data, _ = open_training_data(exp, config, inputs)
    data_s = time.monotonic() - started_s - digests_s
    sampler = BucketSampler(data.frames, config.batch, config.training.seed)
    for_largest_batches(data, sampler, lambda batch: None)
    largest_s = time.monotonic() - started_s - digests_s - data_s
    # About the middle of the second epoch.
    first = Position(len(data) // 70, 1, len(data) // 200) if start == STARTS[-1] else Position()
    batches = training_batches(data, sampler, first, workers)
    batch, total_s = next(batches), time.monotonic() - started_s
    added_mb = _memory_mb("self", "Anonymous") - before_mb
    loaders = [f"{_memory_mb(child.pid, 'Private_Dirty'):.0f}" for child in multiprocessing.active_children()]
    print(
        f"{start}: first batch ({batch.position}, {len(batch.utt_ids)} utterances) after {total_s:.1f} s, of which the "
        f"inputs' digests took {digests_s:.1f} s, selection and statistics {data_s:.1f} s, the largest batches "
        f"{largest_s:.1f} s; {added_mb:.0f} MB of memory added that no file backs; of each loading process "
        f"{' '.join(loaders)} MB are its own",
        flush=True,
    )
    del batches  # ends the workers


def _config(workers: int) -> "ExperimentConfig":
    """A small model with the paper's batches."""
    from omnirouter.data.sampler import BatchConfig
    from omnirouter.models.config import ModelConfig
    from omnirouter.training.config import ExperimentConfig, TrainingConfig

    return ExperimentConfig(
        model=ModelConfig(layers=2, dim=64, heads=2, ffn_dim=128),
        batch=BatchConfig(max_batch_s=1575, buckets=100),
        training=TrainingConfig(workers=workers),
    )


def _memory_mb(pid: int | str, kind: str) -> float:
    """One of the sums of /proc/PID/smaps_rollup in megabytes."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{kind}:")) / 1000


def main() -> None:
    """Parse arguments and make or measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parts = (*STAGES, *STARTS)
    parser.add_argument("what", choices=("make", "stages", "measure", *parts), help="the last are parts of the others")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--utterances", type=int, default=11_000_000, help="to make")
    parser.add_argument("--workers", type=int, default=1, help="processes that load batches while measuring")
    args = parser.parse_args()
    if args.what == "make":
        make(args.folder, args.utterances)
    elif args.what == "measure":
        measure(args.folder, args.workers)
    elif args.what == "stages":
        stages(args.folder)
    elif args.what in STAGES:
        run_stage(args.folder, args.what)
    else:
        start_training(args.folder, args.workers, args.what)


if __name__ == "__main__":
    main()
