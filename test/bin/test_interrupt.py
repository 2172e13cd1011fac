"""Ctrl-C while a command still imports what it needs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("statement", "code", "words"),
    [
        ("import signal; signal.raise_signal(signal.SIGINT)", 130, ""),
        ("raise ValueError('still shown')", 1, "still shown"),
    ],
)
def test_an_interrupt_during_imports_is_quiet(tmp_path: Path, statement: str, code: int, words: str) -> None:
    (tmp_path / "torch.py").write_text(statement + "\n")  # imported instead of the real one
    environment = {**os.environ, "PYTHONPATH": f"{tmp_path}:{ROOT}"}
    command = [sys.executable, "-m", "omnirouter.bin.decode", "--help"]
    ended = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True)
    assert ended.returncode == code
    assert words in ended.stderr if words else ended.stderr == ended.stdout == ""
