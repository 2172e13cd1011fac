"""The set that shows what millions of utterances cost, and its measurements, at a few hundred of them."""

import dataclasses
import re
import statistics
import sys
from pathlib import Path
from typing import Any

import large_set
import pytest

from omnirouter.data.dataset import Batch, TrainingData, read_feature_dir
from omnirouter.data.features import FeatureConfig, load_features
from omnirouter.data.sampler import BatchConfig, BucketSampler, Position
from omnirouter.training.config import ExperimentConfig

UTTERANCES = 250


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A set of recordings of a minute, with some of the utterances' statistics and with short batches."""
    folder = tmp_path_factory.mktemp("large")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(large_set, "HOUR_S", 60)
        command(patch, "make", folder, "--utterances", str(UTTERANCES))
    return folder


def command(patch: pytest.MonkeyPatch, what: str, folder: Path, *options: str) -> None:
    """Run a part of the script in this process, those too that it would start in one of their own."""
    patch.setattr(large_set.subprocess, "run", lambda started, check: command(patch, *started[2:]))
    patch.setattr(sys, "argv", ["large_set.py", what, str(folder), *options])
    large_set.main()


def test_its_utterances_are_as_long_as_their_tables_say(made: Path) -> None:
    utterances = read_feature_dir(made / "data")
    assert len(utterances) == UTTERANCES
    for utterance in utterances[::100]:
        assert len(load_features(utterance.place, utterance.utt_id)) == utterance.frames
    assert statistics.mean(utterance.frames for utterance in utterances) == pytest.approx(1600, abs=150)


def test_every_stage_runs_on_its_tables(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    fbank_jobs: list[tuple[int, int]] = []
    monkeypatch.setattr("omnirouter.data.fbank.run_fbank_job", lambda data, out, *job: fbank_jobs.append(job))
    command(monkeypatch, "stages", made)
    problems, *lines = capsys.readouterr().out.splitlines()
    assert not problems and fbank_jobs == [(2, 2)]
    assert [re.sub(r"[\d.]+", "0", line) for line in lines] == [
        f"{stage}: 0 s, 0 GB of memory at most" for stage in large_set.STAGES
    ]


def test_a_training_begins_and_goes_on_with_the_statistics_that_the_index_has(
    made: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    config, start_training, there, asked, loaded = large_set._config, large_set.start_training, [], [], []
    largest, load = BucketSampler.largest, TrainingData.__getitem__

    def small(workers: int) -> ExperimentConfig:
        sizes = {"features": FeatureConfig(stats_h=60 / 3600), "batch": BatchConfig(max_batch_s=60, buckets=5)}
        return dataclasses.replace(config(workers), **sizes)

    def start(*args: Any) -> None:
        there.append(stats())
        start_training(*args)

    def stats() -> list[Path]:
        return list(made.glob("data/index_*/stats_*.json"))

    def load_noted(self: TrainingData, key: tuple[Position, list[int], Position]) -> Batch:
        loaded.append(key[1])  # the first batch is another process's
        return load(self, key)

    monkeypatch.setattr(BucketSampler, "largest", lambda self: asked.append(largest(self)) or asked[-1])
    monkeypatch.setattr(TrainingData, "__getitem__", load_noted)
    monkeypatch.setattr(large_set, "_config", small)
    monkeypatch.setattr(large_set, "start_training", start)
    command(monkeypatch, "measure", made)
    printed = capsys.readouterr().out.splitlines()  # the log too, where a test before this one has set it up
    index, begin, go_on = (line for line in printed if line.startswith(("index of", "begin: ", "go_on: ")))
    assert re.fullmatch(rf"index of {UTTERANCES} utterances: built in \d+ s, of which the statistics took \d+", index)
    for line, start, position in (
        (begin, "begin", "0, epoch=0, batch=0"),
        (go_on, "go_on", f"{UTTERANCES // 70}, epoch=1, batch={UTTERANCES // 200}"),
    ):
        assert line.startswith(f"{start}: first batch (Position(number={position}), ")
        parts = r" digests took ([\d.]+) s, .* statistics ([\d.]+) s, the largest batches ([\d.]+) s; -?\d+ MB"
        total_s, *parts_s = map(float, re.search(rf"after ([\d.]+) s, .*{parts}", line).groups())
        assert total_s + 0.2 >= sum(parts_s)
        assert re.search(r"of each loading process \d+ MB are its own$", line)
    assert len(stats()) == 1 and there == [stats()] * 2
    assert len(asked) == 2 and loaded == asked[0] + asked[1]  # all of them at both starts, as training does
