import subprocess
import sys
from pathlib import Path

CONF = Path(__file__).parents[2] / "egs/libriheavy/asr1/conf"


def model_info(*arguments):
    command = [sys.executable, "-m", "omnirouter.bin.model_info", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def rows(text):
    return {line[:12].strip(): line[12:].split() for line in text.splitlines()}


def test_the_table_of_the_papers_largest_model():
    shown = model_info("--config", CONF / "omnirouter_8_512.yaml")
    assert shown.returncode == 0, shown.stderr
    table = rows(shown.stdout)
    # 16 layers of 4·512·4096 FLOPs a token, and as much for each of the 25 tokens of a second: 3.355 G.
    assert table["experts"] == ["537,460,736", "67,182,592", "3.355", "8.009"]
    assert table["total"][:2] == ["558,642,688", "88,364,544"]
    assert float(table["total"][3]) == round(558_642_688 * 16 / 2**30, 3)


def test_options_change_model_vocabulary_and_length():
    base = ("--config", CONF / "omnirouter_2_512.yaml")
    table = rows(model_info(*base, "--vocab-size", 100, "--utterance-s", 30, "--set", "model.layers=1").stdout)
    assert table["output"][0] == f"{512 * 100 + 100:,}"
    assert table["attention"][0] == f"{4 * 512 * 512:,}"
    # 750 tokens of 8·512² + 4·512·750 FLOPs in 30 s
    assert float(table["attention"][2]) == round(25 * (8 * 512**2 + 4 * 512 * 750) / 1e9, 3)


def test_a_wrong_length_is_one_line_and_status_1():
    refused = model_info("--config", CONF / "dense.yaml", "--utterance-s", "0.01")
    assert refused.returncode == 1 and refused.stderr.startswith("error: ") and refused.stderr.count("\n") == 1


def test_an_impossible_vocabulary_is_refused():
    refused = model_info("--config", CONF / "dense.yaml", "--vocab-size", 10**20)
    assert refused.returncode == 2 and "must lie in 1 … 10000000" in refused.stderr
