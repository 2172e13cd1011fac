import subprocess
import sys
from pathlib import Path

import pytest

from omnirouter.bin import report


def run(*arguments):
    command = [sys.executable, "-m", "omnirouter.bin.report", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_a_report_of_an_experiment_without_results(tmp_path):
    (tmp_path / "exp/new").mkdir(parents=True)
    (tmp_path / "exp/new/config.yaml").write_text("model: {encoder: dense}\n")
    (tmp_path / "exp/new/metrics.jsonl").write_text('{"step": 1, "ctc_loss": 2.5}\n')
    done = run(tmp_path / "exp/new", "--output", tmp_path / "report")
    assert done.returncode == 0, done.stderr
    said = f"{tmp_path / 'report/index.html'} is written, 0.1 MB with its data: open it in a browser\n"
    assert done.stdout == said
    assert (tmp_path / "report/index.html").is_file() and (tmp_path / "report/data/index.js").is_file()


@pytest.mark.parametrize(
    ("size", "advice"),
    [(10_000_000, ""), (10_000_001, "fewer sets (--set NAME) or fewer experiments make it smaller\n")],
)
def test_a_large_report_says_what_makes_it_smaller(monkeypatch, capsys, size, advice):
    monkeypatch.setattr(report, "write_report", lambda *_: size)
    monkeypatch.setattr(sys, "argv", ["report", "exp/a", "--output", "out"])
    report.main()
    assert capsys.readouterr().out.endswith(f" is written, 10.0 MB with its data: open it in a browser\n{advice}")


def test_the_folder_in_which_one_stands_has_a_name(monkeypatch, tmp_path):
    given = []
    monkeypatch.setattr(report, "write_report", lambda exps, _, options: given.extend([*exps, *options.data_dirs]) or 1)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["report", ".", "exp/a", "--data", "./.", "--output", "out"])
    report.main()
    assert given == [tmp_path, Path("exp/a"), tmp_path]


def test_a_mistake_is_one_line_and_leaves_nothing(tmp_path):
    done = run(tmp_path / "exp/none", "--output", tmp_path / "report")
    assert done.returncode == 1
    assert done.stderr.startswith("error: ") and "config.yaml" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "report").exists()
