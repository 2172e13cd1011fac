"""run_compare.sh: which experiments its lists mean, what it refuses, and the mini recipe's from first to table."""

import os
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

Clone = Any  # of conftest.py
TINY = (
    "model.layers=2 model.dim=32 model.heads=2 model.ffn_dim=64 batch.max_batch_s=30 "
    "training.max_steps=4 training.valid_every=2 training.log_every=1 training.workers=0"
)
LISTS = {
    "default": ([], ["dense:", "switch:", "omnirouter:"]),
    "experts": (
        ["--encoders", "dense switch", "--experts", "2 8"],
        ["dense:", "switch_2: model.experts=2", "switch_8: model.experts=8"],
    ),
    "seeds": (
        ["--encoders=omnirouter", "--seeds", "1 3", "--set", "a.b=1  c.d=2"],
        ["omnirouter: a.b=1 c.d=2 training.seed=1", "omnirouter_seed3: a.b=1 c.d=2 training.seed=3"],
    ),
    "sizes": (
        ["--encoders=dense switch", "--sizes", "s: model.dim=8; wide:model.dim=16 model.heads=4", "--experts=4"],
        [
            "dense_s: model.dim=8",
            "switch_4_s: model.dim=8 model.experts=4",
            "dense_wide: model.dim=16 model.heads=4",
            "switch_4_wide: model.dim=16 model.heads=4 model.experts=4",
        ],
    ),
    "another's options": (["--nj", "3", "--encoders=dense", "--ngpu=0"], ["dense:"]),
}
BAD = {
    "encoder": (["--encoders", "dense nope"], "--encoders: no conf/nope.yaml"),
    "no encoder": (["--encoders="], "--encoders: name at least one"),
    "experts": (["--experts", "two"], "--experts and --seeds are numbers"),
    "seeds": (["--seeds", "-1"], "--experts and --seeds are numbers"),
    "size": (["--sizes", "model.dim=96"], "is not as in 'small: model.dim=96'"),
    "name of a size": (["--sizes", "a/b: model.dim=96"], "'a/b' is no name of letters and digits"),
    "twice": (["--seeds", "2 2"], "given twice: dense_seed2 omnirouter_seed2 switch_seed2"),
    "ngpu": (["--ngpu=abc"], "--ngpu must be a number of GPUs, not 'abc'"),
    "jobs": (["--jobs", "0"], "--jobs must be at least 1"),
    "headline": (["--headline", "cer"], "--headline must be raw or whisper, not 'cer'"),
    "job": (["--job", "4"], "--job 4: there are 1 to 3"),
    "name": (["--name", "a/b"], "--name: 'a/b' is no name of letters, digits, - and _"),
    "config": (["--config", "x"], "--config: each experiment has its own"),
    "stop stage": (["--stop_stage", "3"], "--stop_stage: each experiment has its own"),
    "unknown": (["--epochs", "3"], "unknown option --epochs; valid ones are --help --encoders"),
}


@pytest.fixture(scope="module")
def untouched(make_clone: Callable[[], Clone]) -> Clone:
    return make_clone()


def call(clone: Clone, *args: str, recipe: str = "mini", **variables: str) -> subprocess.CompletedProcess[str]:
    command = [str(clone.root / "egs" / recipe / "asr1/run_compare.sh"), *args]
    environment = {**os.environ, "OMNIROUTER_VENV": "/nonexistent", **variables}
    if "CUDA_VISIBLE_DEVICES" not in variables:
        environment.pop("CUDA_VISIBLE_DEVICES", None)
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd="/", check=False)


@pytest.mark.parametrize(("args", "wanted"), LISTS.values(), ids=LISTS.keys())
def test_the_lists_are_combined(untouched: Clone, args: list[str], wanted: list[str]) -> None:
    listed = call(untouched, "--list", *args)
    assert (listed.returncode, listed.stderr) == (0, "")
    lines = [re.fullmatch(r"(\d+) (\S+): conf/(\S+)\.yaml ?(.*)", line) for line in listed.stdout.splitlines()]
    assert [int(line[1]) for line in lines if line] == list(range(1, len(wanted) + 1))
    assert [f"{line[2]}: {line[4]}".strip() for line in lines if line] == wanted
    assert all(line and line[2].startswith(line[3]) for line in lines)


@pytest.mark.parametrize(("args", "message"), BAD.values(), ids=BAD.keys())
def test_mistakes_are_refused_before_anything_happens(untouched: Clone, args: list[str], message: str) -> None:
    refused = call(untouched, *args)
    assert (refused.returncode, refused.stdout) == (1, "")
    assert refused.stderr.startswith("error: ") and message in refused.stderr


def test_experiments_of_a_comparison_with_a_name_bear_it(untouched: Clone) -> None:
    listed = call(untouched, "--list", "--name", "my-1", "--encoders=dense switch", "--experts=2", "--seeds=1 2").stdout
    assert re.findall(r"^\d (\S+): conf/(\S+)\.yaml ", listed, re.MULTILINE) == [
        ("my-1_dense", "dense"),
        ("my-1_dense_seed2", "dense"),
        ("my-1_switch_2", "switch"),
        ("my-1_switch_2_seed2", "switch"),
    ]
    help_text = call(untouched, "--help").stdout
    assert re.search(r"\n  --name  .*exp/NAME_dense …, exp/COMPARE_NAME\.md", help_text)


def test_a_recipes_own_options_are_known(untouched: Clone) -> None:
    assert call(untouched, "--list", "--hours", "100", recipe="librispeech").returncode == 0
    help_text = call(untouched, "--help", recipe="librispeech").stdout
    assert all(f"\n  --{name} " in help_text for name in ("experts", "hours", "corpus-dir"))


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """An environment whose Python only notes what it is called with, and fails where it trains `omnirouter`.

    Where it trains another one, it notes the GPUs too, and whether another training has them. It finds four.
    """
    program = tmp_path / "venv/bin/python"
    program.parent.mkdir(parents=True)
    program.write_text(
        f"""#!/bin/sh
cd "{tmp_path}"
echo "$*" >>calls
case "$*" in
    -c*device_count*) echo 0 1 2 3 ;;
    *"4 train omnirouter"*) echo out of luck; exit 1 ;;
    *"4 train"*)
        echo "${{CUDA_VISIBLE_DEVICES-all}}" >>gpus
        mkdir "in use $CUDA_VISIBLE_DEVICES" || echo >>clashes
        sleep 0.1
        rmdir "in use $CUDA_VISIBLE_DEVICES" || true ;;
esac
"""
    )
    program.chmod(0o755)
    return program


def test_every_experiment_is_a_job_and_a_failed_one_stops_none(untouched: Clone, python: Path, tmp_path: Path) -> None:
    options = ("--jobs", "3", "--ngpu", "0", "--set", "optim.lr=1", "--seeds", "1 2")
    done = call(untouched, *options, OMNIROUTER_VENV=str(python.parents[1]))
    assert done.returncode == 1
    assert "out of luck\n" in done.stderr and "omnirouter failed; above is the end of exp/compare" in done.stderr
    assert done.stderr.splitlines()[-1].startswith("error: not all experiments are finished")
    calls = (tmp_path / "calls").read_text().splitlines()
    trained = [
        re.search(r"bin\.train .*--exp (\S+) --config .*/conf/(\w+)\.yaml --variant= --set=(.*) --ngpu 0$", line)
        for line in calls
    ]
    assert sorted(match.groups() for match in trained if match) == [
        (f"exp/{name}{'_seed2' if seed == 2 else ''}", name, f"optim.lr=1 training.seed={seed}")
        for name in ("dense", "omnirouter", "switch")
        for seed in (1, 2)
    ]
    assert not any("compare_table" in line for line in calls)
    made = [line for line in calls if "1 data directories" in line]
    assert len(made) == 1, "the data are made once, before the jobs"


GPUS = {
    "all of the machine": (["--jobs=4", "--seeds=1 2"], {}, {"0", "1", "2", "3"}),
    "several each": (["--jobs=2", "--ngpu=2", "--seeds=1 2"], {}, {"0,1", "2,3"}),
    "more jobs than experiments": (["--jobs=9"], {}, {"0", "1"}),
    "those that are named": (["--jobs=2"], {"CUDA_VISIBLE_DEVICES": "7,GPU-5a,2"}, {"7", "GPU-5a"}),
    "one named twice": (["--jobs=2"], {"CUDA_VISIBLE_DEVICES": "1,1"}, {"1"}),
    "none": (["--jobs=2"], {"CUDA_VISIBLE_DEVICES": "-1"}, {"-1"}),
    "not wanted": (["--jobs=2", "--ngpu=0"], {}, {"all"}),
    "on a cluster": (["--jobs=2"], {"OMNIROUTER_BACKEND": "slurm"}, {"all"}),
    "one job": (["--ngpu=2"], {"CUDA_VISIBLE_DEVICES": "5,6"}, {"5,6"}),
}


@pytest.mark.parametrize(("options", "variables", "wanted"), GPUS.values(), ids=GPUS.keys())
def test_jobs_share_out_the_gpus(
    untouched: Clone, python: Path, tmp_path: Path, options: list[str], variables: dict[str, str], wanted: set[str]
) -> None:
    encoders = ("--encoders", "dense switch")
    done = call(untouched, *options, *encoders, OMNIROUTER_VENV=str(python.parents[1]), **variables)
    assert done.returncode == 0, done.stderr
    given = (tmp_path / "gpus").read_text().splitlines()
    assert len(given) == 2 + 2 * ("--seeds=1 2" in options) and set(given) == wanted
    assert len(wanted) == 1 or not (tmp_path / "clashes").exists()


def test_too_few_gpus_for_all_jobs_are_refused(untouched: Clone, python: Path, tmp_path: Path) -> None:
    options = ("--jobs", "2", "--ngpu", "2")
    venv = str(python.parents[1])
    refused = call(untouched, *options, OMNIROUTER_VENV=venv, CUDA_VISIBLE_DEVICES="4,5,6")
    assert refused.returncode == 1
    assert refused.stderr.startswith("error: GPUs for 2 jobs, 2 each: there are only 3 (4 5 6); lower --jobs or --ngpu")
    assert not (tmp_path / "calls").exists()


def test_sizes_are_compared_each_with_its_own_baseline(untouched: Clone, python: Path, tmp_path: Path) -> None:
    options = (
        "--encoders=dense switch",
        "--sizes",
        "s: model.dim=8; l: model.dim=16",
        "--seeds=1 2",
        "--ngpu=0",
        "--jobs=4",
    )
    stale = untouched.mini / "exp/compare/figures_test/fig2_old.png"
    stale.parent.mkdir(parents=True, exist_ok=True)
    stale.touch()
    call(untouched, *options, OMNIROUTER_VENV=str(python.parents[1]))
    (table,) = [line for line in (tmp_path / "calls").read_text().splitlines() if "compare_table" in line]
    small, large = (
        " ".join(f"exp/{name}_{size},exp/{name}_{size}_seed2" for name in ("dense", "switch")) for size in "sl"
    )
    assert f"bin.compare_table {small} --size {large} --headline raw " in table
    assert not stale.exists()


def test_a_comparison_with_a_name_leaves_the_other_alone(untouched: Clone, python: Path, tmp_path: Path) -> None:
    others, stale = (
        untouched.mini / f"exp/{folder}/figures_test/fig2_old.png" for folder in ("compare", "compare_short")
    )
    for path in (others, stale):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    done = call(untouched, "--name", "short", "--jobs=3", "--ngpu=0", OMNIROUTER_VENV=str(python.parents[1]))
    assert done.returncode == 0 and done.stdout.endswith("exp/COMPARE_short.md and exp/compare_short/ are written\n")
    calls = (tmp_path / "calls").read_text()
    names = {f"short_{encoder}" for encoder in ("dense", "switch", "omnirouter")}
    assert set(re.findall(r"bin\.train .*--exp exp/(\S+) ", calls)) == names
    table, figures = calls.splitlines()[-2:]
    experiments = "exp/short_dense exp/short_switch exp/short_omnirouter"
    assert table.endswith(f"compare_table {experiments} --headline raw --output exp/COMPARE_short.md")
    assert figures.endswith(f"figures {experiments} --output exp/compare_short/figures")
    assert {path.stem for path in (untouched.mini / "exp/compare_short").glob("*.log")} == names
    assert others.exists() and not stale.exists()


def test_fig_3_can_be_left_out(untouched: Clone, python: Path, tmp_path: Path) -> None:
    for name in ("dense", "switch"):
        (untouched.mini / f"exp/drawn_{name}/routing_test").mkdir(parents=True)
    for given, wanted in (([], 2), (["--skip-fig3"], 0)):
        (tmp_path / "calls").unlink(missing_ok=True)
        options = ("--encoders", "dense switch", "--name=drawn", "--ngpu=0", *given)
        assert call(untouched, *options, OMNIROUTER_VENV=str(python.parents[1])).returncode == 0
        assert (tmp_path / "calls").read_text().count("bin.random_routing ") == wanted


def test_one_job_of_the_list(untouched: Clone, python: Path, tmp_path: Path) -> None:
    done = call(untouched, "--job", "2", OMNIROUTER_VENV=str(python.parents[1]))
    assert done.returncode == 0 and "2 of 3: switch is finished" in done.stdout
    calls = (tmp_path / "calls").read_text()
    assert "4 train switch" in calls and "4 train dense" not in calls and "1 data directories" not in calls


@pytest.fixture(scope="module")
def compared(finished: Clone, tmp_path_factory: pytest.TempPathFactory) -> tuple[Clone, list[str]]:
    """A copy whose data are made, in which the first experiment is run alone, as on another machine, then all."""
    root = tmp_path_factory.mktemp("compared") / finished.root.name
    shutil.copytree(finished.root, root, symlinks=True)
    clone = replace(finished, root=root)
    corpus = finished.command()[1:4]
    command = [
        str(clone.mini / "run_compare.sh"),
        *corpus,
        "--ngpu=0",
        "--encoders=dense switch",
        "--experts=2",
        "--set",
        TINY,
    ]
    return clone, [clone.output_of([*command, *more]) for more in (["--job", "1"], ["--jobs", "2"])]


def test_what_is_finished_is_passed_over(compared: tuple[Clone, list[str]]) -> None:
    clone, (first, second) = compared
    assert "1 of 2: dense is finished" in first and "COMPARE" not in first
    assert "1 of 2: dense is finished" in second and "2 of 2: switch_2 is finished" in second
    again, new = ((clone.mini / f"exp/compare/{name}.log").read_text() for name in ("dense", "switch_2"))
    assert "training is finished" in again and "stage 5 decode test: up to date" in again
    assert "stage 4 train switch_2: done" in new and "up to date" not in new


def test_the_table_and_the_figures_are_there(compared: tuple[Clone, list[str]]) -> None:
    clone, (_, printed) = compared
    table = (clone.mini / "exp/COMPARE.md").read_text()
    assert (
        table in printed
        and "| set | utterances | words | dense, " in table
        and ", switch, 2 experts" not in table.split("\n")[0]
    )
    assert re.search(r"^\| test \| 8 \| \d+ \| \d+\.\d+ \[.*\] \| \d+\.\d+\*? \[.*\] \|$", table, re.MULTILINE)
    assert "mean relative reduction against dense" in table and "| dev |" not in table
    figures = clone.mini / "exp/compare/figures_test"
    assert (figures / "fig6_training_loss.png").stat().st_size > 1000 and (figures / "fig3_random_routing.png").exists()
    measured = {path.name for path in (clone.mini / "exp/switch_2").glob("random_routing_*")}
    assert measured == {"random_routing_test"} and not list((clone.mini / "exp/dense").glob("*routing*"))
    assert (clone.mini / "exp/switch_2/random_routing_test/fig3_random_routing.png").exists()


def test_a_second_comparison_is_told_to_take_a_name(compared: tuple[Clone, list[str]]) -> None:
    clone, _ = compared
    options = ("--ngpu=0", "--encoders=dense", "--job=1", "--set", TINY.replace("max_steps=4", "max_steps=5"))
    refused = clone.output_of([str(clone.mini / "run_compare.sh"), *clone.command()[1:4], *options], code=1)
    assert "exp/dense is another experiment" in refused and "give this one a --name of its own" in refused
