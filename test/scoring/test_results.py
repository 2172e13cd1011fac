import hashlib
import json
import subprocess
from pathlib import Path

import pytest
import yaml

import omnirouter
from omnirouter.data.errors import UserError
from omnirouter.scoring.report import score_decoding
from omnirouter.scoring.result_table import BEGIN, END, write_results
from omnirouter.scoring.results import checkout_commit, collect_results, encoder_name

TRAIN_TEXT = "t1 a\nt2 a b\nt3 a b c\n"
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
    train = tmp_path / "data" / "train"
    train.mkdir()
    (train / "text").write_text(TRAIN_TEXT)
    (train / "utt2dur").write_text("t1 1800\nt2 1800\nt3 1800.0\n")
    inputs = {"train": "data/train", "digests": {"train/text": hashlib.sha256(TRAIN_TEXT.encode()).hexdigest()[:16]}}
    (exp / "omnirouter" / "config.yaml").write_text(yaml.safe_dump({"model": CONFIGS["omnirouter"], "inputs": inputs}))
    (exp / "omnirouter" / "model_info.json").write_text(
        json.dumps({"parameters": 2310000, "active_parameters": 1524999, "version": "0.9", "commit": "abc1234"})
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
        "raw WER %", "95 % interval", "95 % by speaker", "Whisper WER %", "CER %",
        "training utterances", "training words", "training hours", "config", "version", "commit",
    ]  # fmt: skip
    assert rule == ["---"] * 3 + ["---:"] * 15
    dense = ["dense", "dense", "–", "–", "1", "4"]
    omni = ["omnirouter", "omnirouter, 4 experts", "2.31M", "1.52M", "1", "4"]
    data, code = ["3", "6", "1.5"], ["0.9", "abc1234"]
    assert rows == [
        ["dev", *omni, "0.00", "0.00 to 0.00", "–", "0.00", "0.00", *data, hashes["omnirouter"], *code],
        # TWO becomes 2 for Whisper; 3 of the 9 characters of 'a b c TWO' are wrong
        [
            "test",
            *dense,
            "25.00",
            "25.00 to 25.00",
            "–",
            "0.00",
            "33.33",
            *["–"] * 3,
            hashes["dense"],
            "–",
            "–",
        ],
        ["test", *omni, "25.00", "25.00 to 25.00", "–", "25.00", "11.11", *data, hashes["omnirouter"], *code],
    ]


def test_the_headline_comes_first_with_its_interval(exp):
    write_results(exp, "whisper")
    titles, _, _, dense, _ = cells((exp / "RESULTS.md").read_text())
    assert titles[7:12] == ["Whisper WER %", "95 % interval", "95 % by speaker", "raw WER %", "CER %"]
    assert dense[7:12] == ["0.00", "0.00 to 0.00", "–", "25.00", "33.33"]


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


def test_utterances_that_a_training_left_out_are_counted_beside_its_set(exp):
    path = exp / "omnirouter/model_info.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "left_out": 2}))
    write_results(exp, "raw")
    _, _, _, *rows = cells((exp / "RESULTS.md").read_text())
    assert [row[12:15] for row in rows] == [["–"] * 3, ["3 (2 left out)", "6", "1.5"]]


@pytest.mark.parametrize("change", ["another text", "no durations"])
def test_a_training_set_that_is_no_longer_the_same_is_not_counted(exp, change):
    train = exp.parent / "data/train"
    if change == "no durations":
        (train / "utt2dur").unlink()
    else:
        (train / "text").write_text(TRAIN_TEXT + "t4 a\n")
    assert [result.training for result in collect_results(exp)] == [None] * 3


PAGE = f"# By hand\n\nbefore\n\n{BEGIN}\nold\n{END}\n\nafter\n"


def test_a_page_keeps_what_stands_around_its_tables(exp, tmp_path):
    page = tmp_path / "RESULTS.md"
    page.write_text(PAGE)
    for _ in range(2):
        printed = write_results(exp, "raw", page)
        before, rest = page.read_text().split(BEGIN)
        tables, after = rest.split(END)
        assert (before, after) == (PAGE.split(BEGIN)[0], PAGE.split(END)[1])
        assert "old" not in tables and len(cells(tables)) == 5 and omnirouter.__version__ in tables
    assert str(page) in printed and not (exp / "RESULTS.md").exists()


def test_a_page_is_made_where_there_is_none(exp, tmp_path):
    write_results(exp, "raw", tmp_path / "new.md")
    assert (tmp_path / "new.md").read_text().startswith(f"{BEGIN}\n\n| set |")
    write_results(exp, "whisper", tmp_path / "new.md")
    assert (tmp_path / "new.md").read_text().count("| set |") == 1


@pytest.mark.parametrize("text", ["no marks\n", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN}\n{END}\n{BEGIN}\n{END}\n"])
def test_a_page_whose_marks_are_amiss_is_left_alone(exp, tmp_path, text):
    page = tmp_path / "RESULTS.md"
    page.write_text(text)
    with pytest.raises(UserError, match="RESULTS.md: put the lines"):
        write_results(exp, "raw", page)
    assert page.read_text() == text


def test_the_recipes_pages_have_the_marks():
    pages = [path.read_text() for path in Path(__file__).parents[2].glob("egs/*/asr1/RESULTS.md")]
    assert len(pages) >= 3
    assert all(text.count(f"\n{mark}\n") == 1 for text in pages for mark in (BEGIN, END))


def test_only_some_experiments(exp, tmp_path):
    write_results(exp, "raw", tmp_path / "page.md", ["dense"])
    assert [row[1] for row in cells((tmp_path / "page.md").read_text())[2:]] == ["dense"]
    with pytest.raises(UserError, match="no scored experiment other, unscored;"):
        write_results(exp, "raw", tmp_path / "page.md", ["dense", "unscored", "other"])


def test_scores_of_a_version_without_intervals_by_speaker(exp):
    path = exp / "dense" / "decode_test" / "score" / "wer"
    path.write_text("".join(path.read_text().splitlines(keepends=True)[:4]))
    write_results(exp, "raw")
    assert cells((exp / "RESULTS.md").read_text())[3][9] == "–"


def test_scores_of_sclites_alignment_are_a_set_of_their_own(exp):
    decode = exp / "dense/decode_test"
    score_decoding(exp.parent / "data/test", decode / "text", decode / "score", "sclite")
    results = {(result.experiment, result.set_name) for result in collect_results(exp)}
    assert {("dense", "test by sclite"), ("omnirouter", "test")} <= results


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
