"""The command lines that compare experiments."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from omnirouter.bin import compare_table


def run(module: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"omnirouter.bin.{module}", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    """Two experiments scored on one set of four utterances; the second has no error."""
    data = tmp_path / "data/test"
    data.mkdir(parents=True)
    (data / "text").write_text("".join(f"u{i} a b\n" for i in range(4)))
    (data / "utt2spk").write_text("".join(f"u{i} s{i % 2}\n" for i in range(4)))
    for name, words in (("one", "a"), ("two", "a b")):
        decode = tmp_path / "exp" / name / "decode_test"
        decode.mkdir(parents=True)
        (decode / "text").write_text("".join(f"u{i} {words}\n" for i in range(4)))
        scored = run("score", "--data", data, "--hyp", decode / "text", "--output", decode / "score")
        assert scored.returncode == 0, scored.stderr
        (decode.parent / "config.yaml").write_text("model: {encoder: dense}\n")
    return tmp_path / "exp"


def test_two_experiments(exp: Path) -> None:
    shown = run("compare", "two", "one", "--set", "test", "--exp", exp, "--rate", "wer_whisper")
    assert shown.returncode == 0, shown.stderr
    assert "words after Whisper's English normaliser" in shown.stdout and "A - B         -50.00 points" in shown.stdout
    refused = run("compare", "two", "three", "--set", "test", "--exp", exp)
    assert refused.returncode == 1 and refused.stderr.startswith("error: three: neither")


def test_a_table_names_the_experiment_in_which_one_stands(
    exp: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(exp / "one")
    monkeypatch.setattr(sys, "argv", ["compare_table", ".", "../two", "--output", str(exp / "COMPARE.md")])
    compare_table.main()
    assert "| dense, –, one | dense, –, two |" in capsys.readouterr().out


def test_a_table(exp: Path) -> None:
    for name, seed in (("one", 1), ("two", 1), ("two", 2)):
        copy = shutil.copytree(exp / name, exp / f"{name}_{seed}")
        (copy / "config.yaml").write_text(f"model: {{encoder: dense}}\ntraining: {{seed: {seed}}}\n")
    sizes = (exp / "one", f"{exp}/two_1,{exp}/two_2", "--size", exp / "two", exp / "one_1")
    shown = run("compare_table", *sizes, "--headline", "whisper", "--output", exp / "COMPARE.md")
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith("# Comparison: Whisper WER %\n")
    assert [line.split(" | ")[3] for line in shown.stdout.splitlines() if line.startswith("| test | dense")] == [
        "-50.00", "+50.00"
    ], "each against the first of its size"  # fmt: skip
    assert shown.stdout.rstrip() == (exp / "COMPARE.md").read_text().rstrip()
