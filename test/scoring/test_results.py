import hashlib
import json
import subprocess

import pytest
import yaml

import omnirouter
from omnirouter.data.errors import UserError
from omnirouter.scoring.report import score_decoding
from omnirouter.scoring.result_table import write_results
from omnirouter.scoring.results import checkout_commit, collect_results, encoder_name

CONFIGS = {
    "dense": {"encoder": "dense", "experts": 4, "moe_groups": []},
    "omnirouter": {"encoder": "omnirouter", "experts": 4, "moe_groups": []},
}


def write_decoding(exp, name, set_name, hypothesis):
    """Score one utterance of four words as `exp/<name>/decode_<set>`."""
    data, decode = exp.parent / "data" / set_name, exp / name / f"decode_{set_name}"
    for folder in (data, decode):
        folder.mkdir(parents=True, exist_ok=True)
    (data / "text").write_text("u1 a b c TWO\n")
    (data / "utt2spk").write_text("u1 s1\n")
    (decode / "text").write_text(f"u1 {hypothesis}\n")
    score_decoding(data, decode / "text", decode / "score")


@pytest.fixture
def exp(tmp_path):
    """Two experiments scored on `test`, one of them on `dev` too, and one that is not scored yet."""
    exp = tmp_path / "exp"
    for name, model in CONFIGS.items():
        write_decoding(exp, name, "test", "a b c 2" if name == "dense" else "a b x TWO")
        (exp / name / "config.yaml").write_text(yaml.safe_dump({"model": model}))
    write_decoding(exp, "omnirouter", "dev", "a b c TWO")
    (exp / "omnirouter" / "model_info.json").write_text(
        json.dumps({"parameters": 2310000, "active_parameters": 1524999, "commit": "abc1234"})
    )
    (exp / "unscored" / "decode_test").mkdir(parents=True)
    return exp


def cells(markdown):
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_one_row_for_each_experiment_and_set(exp):
    write_results(exp, "raw")
    titles, rule, *rows = cells((exp / "RESULTS.md").read_text())
    hashes = {name: hashlib.sha256((exp / name / "config.yaml").read_bytes()).hexdigest()[:8] for name in CONFIGS}
    assert titles == [
        "set", "experiment", "encoder", "parameters", "active", "utterances", "words",
        "raw WER %", "95 % interval", "Whisper WER %", "CER %", "config", "commit",
    ]  # fmt: skip
    assert rule == ["---"] * 3 + ["---:"] * 10
    dense = ["dense", "dense", "–", "–", "1", "4"]
    omni = ["omnirouter", "omnirouter, 4 experts", "2.31M", "1.52M", "1", "4"]
    assert rows == [
        ["dev", *omni, "0.00", "0.00 to 0.00", "0.00", "0.00", hashes["omnirouter"], "abc1234"],
        # TWO becomes 2 for Whisper; 3 of the 9 characters of 'a b c TWO' are wrong
        ["test", *dense, "25.00", "25.00 to 25.00", "0.00", "33.33", hashes["dense"], "–"],
        ["test", *omni, "25.00", "25.00 to 25.00", "25.00", "11.11", hashes["omnirouter"], "abc1234"],
    ]


def test_the_headline_comes_first_with_its_interval(exp):
    write_results(exp, "whisper")
    titles, _, _, dense, _ = cells((exp / "RESULTS.md").read_text())
    assert titles[7:11] == ["Whisper WER %", "95 % interval", "raw WER %", "CER %"]
    assert dense[7:11] == ["0.00", "0.00 to 0.00", "25.00", "33.33"]


def test_the_terminals_table_is_aligned_and_explained(exp):
    _, titles, rule, *rows = write_results(exp, "raw").split("\n\n")[0].splitlines()
    assert len({len(line) for line in (titles, rule, *rows)}) == 1
    column = slice(titles.index("raw WER %"), titles.index("raw WER %") + len("raw WER %"))
    assert [row[column] for row in rows] == ["     0.00", "    25.00", "    25.00"]
    printed = write_results(exp, "raw")
    assert "raw WER: word errors per 100 reference words" in printed
    assert str(exp / "RESULTS.md") in printed


def test_version_and_commit_stand_below_the_table_and_bytes_repeat(exp):
    write_results(exp, "raw")
    first = (exp / "RESULTS.md").read_bytes()
    write_results(exp, "raw")
    assert (exp / "RESULTS.md").read_bytes() == first
    assert f"omnirouter {omnirouter.__version__}, commit {checkout_commit()}" in first.decode()


def test_an_experiment_of_a_version_that_wrote_no_commit(exp):
    (exp / "dense" / "model_info.json").write_text(json.dumps({"parameters": 1000000, "active_parameters": 500000}))
    row = next(result for result in collect_results(exp) if result.experiment == "dense")
    assert (row.parameters, row.active_parameters, row.commit) == ("1.00M", "0.50M", "–")


def test_commit_of_a_checkout(tmp_path, monkeypatch):
    package = tmp_path / "omnirouter" / "__init__.py"
    package.parent.mkdir()
    package.write_text("")
    monkeypatch.setattr(omnirouter, "__file__", str(package))
    assert checkout_commit() == "unknown"

    def git(*words):
        identity = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
        return subprocess.run(
            ["git", *identity, *words], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout

    git("init")
    assert checkout_commit() == "unknown"
    git("add", ".")
    git("commit", "-m", "first")
    assert checkout_commit() == git("rev-parse", "--short", "HEAD").strip()
    package.write_text("# edited\n")
    assert checkout_commit() == git("rev-parse", "--short", "HEAD").strip() + "-dirty"


@pytest.mark.parametrize(
    ("model", "expected"),
    [
        ({"encoder": "dense", "experts": 4}, "dense"),
        ({"encoder": "switch", "experts": 8}, "switch, 8 experts"),
        ({"encoder": "omnirouter", "experts": 8, "moe_groups": [[6, 2], [6, 4]]}, "omnirouter, 2+4 experts"),
    ],
)
def test_encoder_names(model, expected):
    assert encoder_name(model) == expected


def test_nothing_scored_is_an_error(tmp_path):
    with pytest.raises(UserError, match="stages 5 and 6"):
        write_results(tmp_path, "raw")
    assert not (tmp_path / "RESULTS.md").exists()


def test_a_broken_score_names_its_file(exp):
    (exp / "dense" / "decode_test" / "score" / "cer").write_text("%WER 1.00\n")
    with pytest.raises(UserError, match="decode_test/score/cer: "):
        collect_results(exp)


def test_a_broken_config_names_its_file(exp):
    (exp / "dense" / "config.yaml").write_text("model: [")
    with pytest.raises(UserError, match="dense/config.yaml: not YAML"):
        collect_results(exp)


def test_what_a_killed_restart_has_left_is_no_experiment(exp):
    wanted = collect_results(exp)
    (exp / "dense").rename(exp / ".dense.removed")
    assert [result.experiment for result in collect_results(exp)] == [
        result.experiment for result in wanted if result.experiment != "dense"
    ]
