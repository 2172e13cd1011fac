"""What a recipe refuses before it installs, makes or deletes anything."""

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Clone = Any  # of conftest.py
BAD_NAMES = {name: ("mini", ["--restart", f"--name={name}"], f"--name '{name}'") for name in (".", "..", "../x", "a b")}
BAD = {
    **BAD_NAMES,
    "name with a line end": ("mini", ["--name", "a\nb"], "--name 'a"),
    "hidden name": ("mini", ["--name", ".stage"], "not beginning with a dot"),
    "stage": ("mini", ["--stage", "8"], "stages from 0 to 7"),
    "stop stage": ("mini", ["--stop-stage", "99999999999999999999"], "stages from 0 to 7"),
    "order of stages": ("mini", ["--stage", "5", "--stop-stage", "4"], "the first not after the last"),
    "headline": ("mini", ["--headline", "cer"], "--headline must be raw or whisper, not 'cer'"),
    "ngpu": ("mini", ["--ngpu", "02"], "--ngpu must be a number of GPUs, not '02'"),
    "deep": ("mini", ["--deep", "yes"], "--deep must be auto, true or false, not 'yes'"),
    "features": ("mini", ["--features", "none"], "--features must be stored, compressed or on_the_fly, not 'none'"),
    "decoding": ("mini", ["--decoding", "viterbi"], "--decoding must be greedy, beam or lm, not 'viterbi'"),
    "language model for nothing": ("mini", ["--lm", "x.arpa"], "--lm is for --decoding lm"),
    "corpus of its own": ("mini", ["--corpus-dir", "/"], "the mini corpus is made on this machine"),
    "pipes": ("an4", ["--allow-pipes"], "--allow-pipes is for a corpus of your own"),
    "no corpus": ("own", [], "no --corpus-dir: name the folder that holds your data directories train, dev, test"),
    "test set like a decoding": ("own", ["--corpus-dir", "/", "--test-sets", "film x_lm"], "the set x_lm is named"),
    "dev set like a decoding": ("own", ["--corpus-dir", "/", "--dev-set", "x_beam"], "the set x_beam is named like"),
    "hours": ("librispeech", ["--hours", "200"], "--hours must be 100, 460 or 960, not '200'"),
    "hours without a value": ("librispeech", ["--hours", "--force"], "--hours lacks a value"),
    "unknown to a recipe with options": ("librispeech", ["--hour", "100"], "valid ones are --help --hours --stage"),
    "subset": ("libriheavy", ["--subset", "tiny"], "--subset must be small, medium or large, not 'tiny'"),
    "text": ("libriheavy", ["--text", "lower"], "--text must be upper or cased, not 'lower'"),
    "space in a path": ("libriheavy", ["--librispeech-dir", "/a b"], "--librispeech-dir: a path with a space"),
    "stage of a recipe with options": ("librispeech", ["--hours", "100", "--stage=8"], "stages from 0 to 7"),
    "init": ("mini", ["--init", "nope"], "--init: no nope/model.pt"),
    "unfinished init": ("mini", ["--init", "other"], "--init: no exp/other/model.pt"),
    "init of itself": ("mini", ["--init", "omnirouter"], "--init exp/omnirouter is the experiment itself"),
    "init of itself by path": ("mini", ["--init", "exp/../exp/omnirouter/"], "is the experiment itself"),
}


def run(clone: Clone, recipe: str, *args: str) -> subprocess.CompletedProcess[str]:
    command = [str(clone.root / "egs" / recipe / "asr1/run.sh"), *args]
    environment = {**os.environ, "OMNIROUTER_VENV": "/nonexistent", "PATH": "/usr/bin:/bin"}
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=20, check=False)


@pytest.fixture(scope="module")
def clone(make_clone: Callable[[], Clone]) -> Clone:
    """A copy with a trained experiment and an unfinished one, by the look of them."""
    clone = make_clone()
    for name in ("omnirouter", "other"):
        (clone.mini / "exp" / name).mkdir(parents=True)
    (clone.mini / "exp/omnirouter/model.pt").touch()
    return clone


def files(clone: Clone) -> set[Path]:
    return set((clone.root / "egs").rglob("*"))


@pytest.mark.parametrize("recipe, args, message", BAD.values(), ids=BAD.keys())
def test_refused_before_anything_happens(clone: Clone, recipe: str, args: list[str], message: str) -> None:
    before = files(clone)
    result = run(clone, recipe, *args)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr.startswith("error: ") and message in result.stderr
    assert files(clone) == before


def test_help_says_what_only_this_recipe_knows(clone: Clone) -> None:
    for recipe, words in {
        "own": "DIR/test are Kaldi data directories with",
        "mini": '--corpus-options="--train-utterances',
        "librispeech": "Chosen on dev, which is",
    }.items():
        help_text = run(clone, recipe, "--help").stdout
        assert help_text.count(words) == 1 and help_text.count("The stages of a speech") == 1


def test_what_is_not_needed_is_not_asked_for(clone: Clone) -> None:
    """These go as far as looking for Python."""
    for recipe, args in (("own", ["--stage", "2"]), ("mini", ["--stage", "5", "--init", "nope"])):
        assert "python: command not found" in run(clone, recipe, *args).stderr


IN_CDPATH = {
    "mini/asr1/asr.sh": ["--corpus", "mini", "--stage", "7"],  # bash makes the path absolute where run.sh calls it
    "mini/asr1/compare.sh": ["--job", "1", "--ngpu", "0"],
    "libriheavy/asr1/run.sh": ["--stage", "7"],
}


@pytest.mark.parametrize("script, args", IN_CDPATH.items(), ids=IN_CDPATH.keys())
def test_a_script_runs_where_it_lies_whatever_cdpath_is(
    clone: Clone, tmp_path: Path, script: str, args: list[str]
) -> None:
    """From the clone's top, with another clone in CDPATH."""
    shutil.copytree(clone.root / "egs", tmp_path / "egs", symlinks=True)
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\npwd -P >>"{tmp_path}/places"\n')
    python.chmod(0o755)
    environment = {**os.environ, "OMNIROUTER_VENV": str(tmp_path / "venv"), "CDPATH": str(tmp_path)}
    subprocess.run(["bash", f"egs/{script}", *args], cwd=clone.root, env=environment, check=True)
    assert set((tmp_path / "places").read_text().splitlines()) == {str((clone.root / "egs" / script).parent.resolve())}


def test_the_environment_is_that_of_the_clone_whatever_cdpath_is(clone: Clone, tmp_path: Path) -> None:
    (tmp_path / "egs/mini/asr1").mkdir(parents=True)
    environment = {**os.environ, "OMNIROUTER_VENV": "/none", "CDPATH": str(tmp_path)}
    command = ["bash", "-c", '. egs/mini/asr1/path.sh; echo "$root"']
    result = subprocess.run(command, cwd=clone.root, env=environment, capture_output=True, text=True, check=True)
    assert result.stdout == f"{clone.root}\n"


@pytest.fixture
def calls(clone: Clone, tmp_path: Path) -> Callable[..., list[str]]:
    """A function that runs a recipe in `tmp_path` with a Python that only notes what it is called with."""
    python = tmp_path / "venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "$*" >>"{tmp_path}/calls"\n')
    python.chmod(0o755)

    def calls(*args: str, recipe: str = "mini", script: str = "run.sh") -> list[str]:
        (tmp_path / "calls").unlink(missing_ok=True)
        environment = {**os.environ, "OMNIROUTER_VENV": str(tmp_path / "venv")}
        command = [str(clone.root / "egs" / recipe / "asr1" / script), *args]
        subprocess.run(command, cwd=tmp_path, env=environment, check=True)
        return (tmp_path / "calls").read_text().splitlines()

    return calls


def test_only_a_config_that_was_given_is_taken_from_where_the_user_stands(
    calls: Callable[..., list[str]], tmp_path: Path
) -> None:
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf/omnirouter.yaml").write_text("model: {layers: 99}\n")  # another recipe's, say
    (train,) = [line for line in calls("--stage", "4", "--stop-stage", "4") if "bin.train" in line]
    assert " --config conf/omnirouter.yaml " in train and "--exp exp/omnirouter" in train
    own = calls("--stage", "4", "--stop-stage", "4", "--config", "conf/omnirouter.yaml")
    assert any(f" --config {tmp_path}/conf/omnirouter.yaml " in line for line in own)


def test_libriheavy_downloads_and_trains_on_what_its_options_name(calls: Callable[..., list[str]]) -> None:
    for options, corpus, train, dev, variant in (
        ([], "libriheavy_large_librispeech", "train_large", "dev", "large"),
        (["--subset", "small", "--librispeech-dir", "ls"], "libriheavy_small", "train_small", "dev", "small"),
        (
            ["--subset=medium", "--text=cased"],
            "libriheavy_medium_librispeech",
            "train_medium_cased",
            "dev_cased",
            "medium",
        ),
    ):
        download, prepare, *_ = (line for line in calls(*options, recipe="libriheavy") if "bin.stage" in line)
        assert f"bin.download {corpus} " in download and f"bin.prepare_corpus {corpus} " in prepare
        (training,) = (line for line in calls(*options, "--stage=4", recipe="libriheavy") if "bin.train " in line)
        assert f"--train data/{train} --dev data/{dev} " in training and f"--lang-text data/{train}/text" in training
        assert "--lang data/lang_bpe8192 " in training and "--exp exp/omnirouter " in training
        assert f"--config conf/omnirouter.yaml --variant={variant} --set=" in training
        assert ("--librispeech-dir " in prepare) == ("ls" in options)


@pytest.mark.parametrize("recipe", ["libriheavy", "librispeech"])
def test_librispeechs_four_sets_are_decoded_and_scored_as_the_paper_does(
    calls: Callable[..., list[str]], recipe: str
) -> None:
    lines = calls("--stage", "5", "--stop-stage", "6", recipe=recipe)
    for stage, option in (("5 decode", "bin.decode --exp exp/omnirouter --data"), ("6 score", "bin.score --data")):
        sets = [line.split(f"{option} data/")[1].split()[0] for line in lines if f"--name {stage} " in line]
        assert sets == ["dev", "test_clean", "test_other", "dev_clean", "dev_other"]
    assert lines[-1] == "-m omnirouter.bin.results exp --headline whisper"


@pytest.mark.parametrize(
    ("recipe", "option", "variant"), [("libriheavy", "--subset=small", "small"), ("librispeech", "--hours=100", "100")]
)
def test_the_schedule_belongs_to_the_corpus_whoever_asks_for_the_training(
    calls: Callable[..., list[str]], recipe: str, option: str, variant: str
) -> None:
    asked = [
        calls(option, "--stage=4", "--config", "conf/dense.yaml", recipe=recipe),
        calls(option, "--job=1", recipe=recipe, script="run_compare.sh"),
    ]
    for lines in asked:
        (checked,) = [line for line in lines if "bin.check_config" in line]
        (train,) = [line for line in lines if "bin.train " in line]
        wanted = f"conf/dense.yaml --variant={variant} --set="
        assert wanted in checked and wanted in train and "--exp exp/dense " in train


@pytest.mark.parametrize(
    ("ngpu", "training", "decoding"),
    [
        ([], "20 --mem=64G --gres=gpu:1 ", "gpu:1 "),
        (["--ngpu=0"], "20 --mem=64G --gres=gpu:0 ", "gpu:0 "),
        (["--ngpu=8"], "160 --mem=512G --gres=gpu:8 ", "gpu:1 "),
    ],
)
def test_slurm_is_asked_for_what_a_step_can_use(
    calls: Callable[..., list[str]], monkeypatch: pytest.MonkeyPatch, ngpu: list[str], training: str, decoding: str
) -> None:
    monkeypatch.setenv("OMNIROUTER_BACKEND", "slurm")
    lines = calls("--stage", "2", "--stop-stage", "7", *ngpu)
    of = {word: [line for line in lines if f"-m omnirouter.bin.{word} " in line] for word in ("train", "decode")}
    assert [f"--prefix srun --ntasks=1 --cpus-per-task={training}" in line for line in of["train"]] == [True]
    prefix = f"--prefix srun --ntasks=1 --cpus-per-task=8 --mem=64G --gres={decoding}"
    assert [prefix in line for line in of["decode"]] == [True, True]


@pytest.mark.parametrize(
    ("given", "launch", "of_each"),
    [
        ([], "", ""),
        (["--ngpu", "0"], "", " --ngpu 0"),
        (["--ngpu", "1"], "", " --ngpu 1"),
        (["--ngpu", "8"], "torch.distributed.run --standalone --nproc-per-node 8 -m ", " --ngpu 1"),
    ],
)
def test_several_gpus_are_several_processes_in_training_only(
    calls: Callable[..., list[str]], given: list[str], launch: str, of_each: str
) -> None:
    lines = calls("--stage", "4", "--stop-stage", "5", *given)
    (train,) = [line for line in lines if "omnirouter.bin.train" in line]
    assert f" -- python -m {launch}omnirouter.bin.train " in train
    assert train.endswith(f"--set={of_each}")
    decodes = [line for line in lines if "bin.decode" in line]
    assert len(decodes) == 2 and all(line.endswith(f" --{of_each}") for line in decodes)


def test_random_routing_is_measured_on_request_on_the_test_sets_of_a_mixture_of_experts(
    calls: Callable[..., list[str]], clone: Clone
) -> None:
    for dataset in ("dev", "test"):
        (clone.mini / "exp/omnirouter" / f"routing_{dataset}").mkdir()
    options = ("--stage", "7", "--ngpu", "0")
    for given, wanted in ((["--random-routing"], 1), ([], 0), (["--random-routing", "--name", "other"], 0)):
        lines = calls(*options, *given)
        asked = [line for line in lines if "bin.random_routing" in line]
        assert len(asked) == wanted
        end = " --exp exp/omnirouter --data data/test --headline raw -- --ngpu 0"
        assert all(line.endswith(end) for line in asked)
        analysed = [line.split(" --data data/")[1].split()[0] for line in lines if "bin.analyse_routing" in line]
        assert analysed == ["dev", "test"]


def test_fig_3_is_passed_over_where_a_token_has_several_experts(
    calls: Callable[..., list[str]], clone: Clone, capfd: pytest.CaptureFixture[str]
) -> None:
    for top_k, wanted in ((1, 1), (2, 0), (10, 0)):
        folder = clone.mini / f"exp/top{top_k}"
        (folder / "routing_test").mkdir(parents=True)
        (folder / "config.yaml").write_text(f"model:\n  experts: 16\n  top_k: {top_k}\n  balance: switch\n")
        lines = calls("--stage", "7", "--random-routing", "--name", folder.name)
        assert len([line for line in lines if "bin.random_routing" in line]) == wanted
        notice = "random routing test: passed over, since Fig. 3 is of the top-1 expert only (model.top_k)"
        assert (notice in capfd.readouterr().out) == (not wanted)


def test_the_configuration_is_checked_before_the_first_stage_where_training_is_asked_for(
    calls: Callable[..., list[str]],
) -> None:
    check = "-m omnirouter.bin.check_config --config conf/dense.yaml --variant= --set=model.dim=32 optim.lr=1"
    options = ("--config", "conf/dense.yaml", "--set", "model.dim=32 optim.lr=1")
    for stages in (["--stage", "0"], ["--stage", "3", "--stop-stage", "4"]):
        assert calls(*options, *stages)[0] == check
    for stages in (["--stop-stage", "3"], ["--stage", "5"]):
        assert check not in calls(*options, *stages)


def test_a_wrong_setting_ends_a_recipe_before_it_does_anything(clone: Clone) -> None:
    before = files(clone)
    environment = {**clone.environment(), "PYTHONDONTWRITEBYTECODE": "1"}
    mistakes = {"model.dimm=3": "unknown key 'dimm'; did you mean dim?", "model.dim=many": "dim: expected int"}
    for setting, message in mistakes.items():
        command = [str(clone.mini / "run.sh"), "--set", setting]
        result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr.startswith("error: --set") and message in result.stderr
    assert files(clone) == before
