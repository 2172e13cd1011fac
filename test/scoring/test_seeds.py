"""Means over seeds: which experiments are taken together, and the interval by hand."""

import hashlib
import json

import pytest
import yaml

from omnirouter.data.files import digest
from omnirouter.scoring.result_table import write_results
from omnirouter.scoring.results import collect_results
from omnirouter.scoring.seeds import seed_groups, seed_interval

COMMITS = {1: "abc", 2: "abc", 3: "def"}
"""By seed."""


def add_experiment(exp, name, percent, seed, train="data/train", **changes):
    """Write what stages 4 and 6 leave of an experiment that has `percent` word errors in a hundred."""
    score = exp / name / "decode_test" / "score"
    score.mkdir(parents=True)
    for rate in ("wer", "wer_whisper", "cer"):
        (score / rate).write_text(
            f"%WER {percent:.2f} [ {percent:.0f} / 100, 0 ins, 0 del, {percent:.0f} sub ]\n"
            "95% Conf Interval [ 1.00, 2.00 ] from 10000 bootstrap replicas of the utterances\n"
            "%SER 1.00 [ 1 / 100 ]\nScored 100 utterances, words of the transcripts as they are.\n"
        )
    config = {"model": {"encoder": "switch", "experts": 2}, "training": {"seed": seed, "max_steps": 9, **changes}}
    config["inputs"] = {"train": train, "digests": {"train/text": "aa"}}
    (exp / name / "config.yaml").write_text(yaml.safe_dump(config))
    info = {"parameters": 2000000, "active_parameters": 1000000, "version": "0.1", "commit": COMMITS[seed]}
    (exp / name / "model_info.json").write_text(json.dumps(info))


@pytest.fixture
def exp(tmp_path):
    """Three seeds of a training, one of them once more; another training of one seed."""
    exp = tmp_path / "exp"
    add_experiment(exp, "c", 14, seed=3, train="elsewhere/train")  # the same contents under another path
    add_experiment(exp, "a", 10, seed=1)
    add_experiment(exp, "b", 12, seed=2)
    add_experiment(exp, "b_again", 12, seed=2)
    add_experiment(exp, "longer", 1, seed=2, max_steps=10)
    return exp


def test_an_experiment_belongs_to_those_alike_but_for_their_seed(exp):
    (group,) = seed_groups(exp, collect_results(exp))
    assert [result.experiment for result in group.results] == ["a", "b", "c"]
    assert group.seeds == [1, 2, 3]


def test_the_row_by_hand(exp):
    (group,) = seed_groups(exp, collect_results(exp))
    row = group.row("raw")
    # mean 12, s.d. 2; Student's 97.5 % point at 2 degrees of freedom is 4.303: 12 ± 4.303 * 2 / sqrt(3)
    assert (row["mean raw WER %"], row["s.d."], row["95 % interval over seeds"]) == ("12.00", "2.00", "7.03 to 16.97")
    assert (row["experiment"], row["seeds"], row["encoder"]) == ("a, b, c", "1, 2, 3", "switch, 2 experts")


def test_the_mean_is_of_the_rates_before_they_were_rounded(exp):
    for name, percent, errors in (("a", "11.61", 1309), ("b", "8.08", 911), ("c", "8.31", 937)):
        path = exp / name / "decode_test/score/wer"
        lines = path.read_text().splitlines(keepends=True)
        path.write_text("".join([f"%WER {percent} [ {errors} / 11271, 0 ins, 0 del, {errors} sub ]\n", *lines[1:]]))
    (group,) = seed_groups(exp, collect_results(exp))
    assert group.row("raw")["mean raw WER %"] == "9.34"  # 3157 / 33813; of 11.61, 8.08 and 8.31 it would be 9.33


def test_the_row_says_what_it_is_of(exp):
    train = exp.parent / "data/train"
    train.mkdir(parents=True)
    (train / "text").write_text("t1 a\nt2 a b\n")
    (train / "utt2dur").write_text("t1 1800\nt2 1800\n")
    for name in "abc":
        path = exp / name / "config.yaml"
        path.write_text(path.read_text().replace("elsewhere", "data").replace(" aa", f" {digest(train / 'text')}"))
    (group,) = seed_groups(exp, collect_results(exp))
    row = group.row("raw")
    assert (row["utterances"], row["words"], row["version"], row["commit"]) == ("100", "100", "0.1", "abc, def")
    assert [row[f"training {what}"] for what in ("utterances", "words", "hours")] == ["2", "3", "1.0"]
    hashes = [hashlib.sha256((exp / name / "config.yaml").read_bytes()).hexdigest()[:8] for name in "abc"]
    assert row["config"] == ", ".join(hashes)


def test_the_interval_of_two_values_by_hand():
    low, high = seed_interval([10.0, 12.0])  # s.d. sqrt(2), so an error of 1; 12.706 at 1 degree of freedom
    assert (low, high) == pytest.approx((11 - 12.706, 11 + 12.706), abs=1e-3)


def test_the_table_stands_in_the_report_and_on_the_terminal(exp):
    printed = write_results(exp, "raw")
    report = (exp / "RESULTS.md").read_text()
    assert "## Means over seeds" in report and "| 7.03 to 16.97 |" in report
    assert "7.03 to 16.97" in printed and "other seeds" in printed


def test_without_several_seeds_there_is_no_such_table(tmp_path):
    add_experiment(tmp_path / "exp", "a", 10, seed=1)
    add_experiment(tmp_path / "exp", "b", 12, seed=2, max_steps=10)
    printed = write_results(tmp_path / "exp", "raw")
    assert "over seeds" not in printed + (tmp_path / "exp/RESULTS.md").read_text()
