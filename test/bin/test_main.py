"""What the command lines share."""

import argparse
import subprocess
import sys

import pytest

from omnirouter.bin._main import count, positive


def test_a_positive_number_is_read() -> None:
    assert (positive("2.5"), positive("1e-3")) == (2.5, 0.001)


@pytest.mark.parametrize("text", ["-5", "0", "nan", "inf"])
def test_another_number_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError, match=f"must be positive, is {text}"):
        positive(text)


@pytest.mark.parametrize("module", ["decode", "analyse_routing"])
def test_batches_have_a_positive_length(module: str) -> None:
    command = [sys.executable, "-m", f"omnirouter.bin.{module}", "--exp", "exp/x", "--data", "data/x"]
    result = subprocess.run([*command, "--batch-s", "-5"], capture_output=True, text=True)
    assert result.returncode == 2
    assert result.stderr.endswith("error: argument --batch-s: must be positive, is -5\n")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ("RuntimeError('DataLoader worker (pid 7) is killed by signal: Killed.')", "has been ended (out of memory?)"),
        ("ConnectionResetError(104, 'Connection reset by peer')", "has been ended (out of memory?)"),
        ("EOFError()", "has been ended (out of memory?)"),
        ("RuntimeError('a fault of ours')", "Traceback"),
        ("RuntimeError('Caught RuntimeError in DataLoader worker process 0.')", "Traceback"),
    ],
)
def test_the_end_of_a_loading_process_is_one_line(error: str, words: str) -> None:
    code = f"from omnirouter.bin._main import run\ndef main():\n    raise {error}\nrun(main)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and words in done.stderr
    assert ("Traceback" in done.stderr) == (words == "Traceback")


def test_a_count_is_a_whole_number_of_at_least_1() -> None:
    assert count("12") == 12
    with pytest.raises(argparse.ArgumentTypeError, match="0 is less than 1"):
        count("0")
