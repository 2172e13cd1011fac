"""The mini recipe from its first stage to the results, for the three encoders, with small settings."""

import hashlib
import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

Clone = Any  # of conftest.py
ENCODERS = ("omnirouter", "dense", "switch")
SETS = ("dev", "test")
SCORES = {"wer", "wer_whisper", "cer", "per_utt", "per_spk", "ops", "confusions", "utt2errors", "wer_by_duration"}
STEPS = [
    "1 data directories",
    "1 validation",
    *(f"2 fbank {name}" for name in ("train", *SETS)),
    "3 tokenizer",
    *(f"5 decode {name}" for name in SETS),
    *(f"6 score {name}" for name in SETS),
    *(f"7 analyse routing {name}" for name in SETS),
    "7 figures",
]


@pytest.fixture(scope="module")
def three(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> Clone:
    """A copy with all three encoders trained; also shows that a recipe can be moved."""
    root = tmp_path_factory.mktemp("three") / finished.root.name
    shutil.copytree(finished.root, root, symlinks=True)
    clone = replace(finished, root=root)
    for encoder in ENCODERS[1:]:
        clone.run("--config", f"conf/{encoder}.yaml")
    return clone


def ids(path: Path) -> list[str]:
    return [line.split()[0] for line in path.read_text().splitlines()]


def snapshot(folder: Path) -> dict[str, tuple[str, int]]:
    """Digest and time of every file."""
    return {
        str(path.relative_to(folder)): (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name not in ("RESULTS.md", ".lock")
    }


@pytest.mark.parametrize("encoder", ENCODERS)
def test_every_utterance_is_decoded_and_scored(three: Clone, encoder: str) -> None:
    exp = three.mini / "exp" / encoder
    assert yaml.safe_load((exp / "config.yaml").read_text())["model"]["encoder"] == encoder
    for name in SETS:
        reference = three.mini / "data" / name / "text"
        assert ids(exp / f"decode_{name}" / "text") == ids(reference)
        words = sum(len(line.split()) - 1 for line in reference.read_text().splitlines())
        score = exp / f"decode_{name}" / "score"
        assert {path.name for path in score.iterdir()} == SCORES
        assert re.search(rf"%WER [\d.]+ \[ \d+ / {words}, \d+ ins, \d+ del, \d+ sub \]", (score / "wer").read_text())


def test_routing_is_analysed_where_there_is_a_router(three: Clone) -> None:
    for encoder in ENCODERS:
        exp = three.mini / "exp" / encoder
        analysed = {path.name for path in exp.glob("*routing_*")}
        assert analysed == (set() if encoder == "dense" else {"routing_dev", "routing_test"}), "Fig. 3 is on request"
        figures = {path.stem for path in (exp / "figures").glob("*.png")}
        assert figures == {"fig6_training_loss"} | ({"load", "routing_in_training"} if analysed else set())
        if analysed:
            assert json.loads((exp / "figures/load.json").read_text())[encoder].keys() == set(SETS)


def test_a_second_run_does_nothing_and_ends_with_the_table_of_all(three: Clone) -> None:
    before = snapshot(three.mini)
    output = three.run()
    for step in STEPS:
        assert f"] stage {step}: up to date\n" in output
    assert "training is finished" in output
    assert snapshot(three.mini) == before
    table = output[output.index("] finished in ") :]
    for encoder in ENCODERS:
        for name in SETS:
            assert re.search(rf"^{name} +{encoder} .*%?\d", table, re.MULTILINE), table


def test_a_change_runs_what_depends_on_it_and_nothing_else(three: Clone) -> None:
    text = three.mini / "data/test/text"
    text.write_text(text.read_text().replace(" ", "  ", 1))
    output = three.run("--stage", "2")
    again = set(re.findall(r"\] stage (\d [^,:\n]*)(?:, since [^:]*)?: python", output))
    assert again == {"4 train omnirouter", "6 score test", "7 analyse routing test", "7 figures"}
    assert "stage 6 score test, since data/test/text has changed" in output
    output = three.run("--stage", "6", "--stop-stage", "6", "--force")
    assert "up to date" not in output and "decode" not in output.split("] finished")[0].replace("/decode_", "")


def test_paths_are_taken_from_where_the_user_stands(three: Clone) -> None:
    other = three.root / "elsewhere"
    other.mkdir()
    (other / "mine.yaml").write_text(f"base: {three.mini}/conf/dense.yaml\n")
    output = three.run("--stage", "4", "--stop-stage", "4", "--config", "mine.yaml", cwd=str(other))
    assert "stage 4 train mine: done" in output
    assert (three.mini / "exp/mine/model.pt").exists()


def test_another_config_under_the_same_name_is_refused_with_both_values(three: Clone) -> None:
    output = three.run("--stage", "4", "--name", "dense", code=1)
    assert "model.encoder" in output and "dense" in output and "omnirouter" in output
    assert "error: stage 4 train dense failed (exit code 1)" in output


def test_a_stage_without_its_input_names_it_and_its_stage(make_clone: Callable[[], Clone]) -> None:
    clone = make_clone()
    messages = {
        "2": "stage 2 fbank train lacks data/train/wav.scp (stage 1 makes it); run with --stage 1",
        "3": "stage 3 tokenizer lacks data/train/text (stage 1 makes it); run with --stage 1",
        "4": "data/train/utt2num_frames (stage 2 makes it)",
        "5": "stage 5 decode dev lacks exp/omnirouter/model.pt (stage 4 makes it)",
        "6": "stage 6 score dev lacks exp/omnirouter/decode_dev/text (stage 5 makes it)",
        "7": "stage 7 analyse routing dev lacks exp/omnirouter/model.pt (stage 4 makes it)",
    }
    for stage, message in messages.items():
        assert message in clone.run("--stage", stage, code=1)


def test_help_lists_options_and_stages_without_installing(make_clone: Callable[[], Clone]) -> None:
    clone = make_clone()
    environment = {"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"}
    help = subprocess.run(
        [str(clone.mini / "run.sh"), "--help"], env=environment, capture_output=True, text=True, check=True, cwd="/"
    ).stdout
    for number, word in enumerate("download data fbank tokenizer train decode score analyse".split()):
        assert re.search(rf"^ +{number} {word}", help, re.MULTILINE)
    for option in "stage stop-stage corpus-dir config name init set nj ngpu force restart help".split():
        assert re.search(rf"^  --{option} ", help, re.MULTILINE)
    assert "[mini]" in help and not (clone.root / ".venv").exists()


def test_nothing_in_the_clones_name_was_executed(three: Clone) -> None:
    assert not [path for path in three.root.parent.rglob("trap") if path.is_file()]
