"""Comparison of scored experiments as a table, in the forms of the paper's."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.scoring.compare_table import mean_relative_reduction, write_comparison

REFERENCE = {f"{speaker}-{i}": "a b c d" for speaker in ("ann", "bob", "cid") for i in range(4)}
DEV = {f"{speaker}-{i}": "a b c d" for speaker in ("dan", "eve", "fay") for i in range(4)}
NAMES = ("dense", "switch", "omni")
Decode = Callable[..., Path]  # of conftest.py

TABLE_I = """\
SpeechCrawl 6.1 5.8 5.4
AMI-IHM 18.5 18.3 17.8
Chime6 29.3 29.4 28.2
CommonVoice 19.6 18.9 16.4
Fleurs 9.9 9.0 8.4
Callhome 15.3 15.5 15.0
Switchboard 14.1 14.1 13.5
Librispeech-clean 4.2 3.9 3.3
Librispeech-other 9.0 8.4 7.3
WSJ-nov92 4.4 4.2 3.7
Tedlium 4.7 4.6 4.2
Voxpopuli 9.5 9.1 8.5
"""


def test_mean_relative_reductions_of_the_papers_table() -> None:
    """The 11.2 and 8.2 % of the paper are means over the 11 sets out of domain, that is, all but SpeechCrawl."""
    rows = [list(map(float, line.split()[1:])) for line in TABLE_I.splitlines()[1:]]
    dense, switch, omni = zip(*rows, strict=True)
    assert len(rows) == 11
    assert mean_relative_reduction(dense, omni) == pytest.approx(11.15, abs=0.005)
    assert mean_relative_reduction(switch, omni) == pytest.approx(8.17, abs=0.005)


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_the_table_by_hand(decode: Decode, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    for set_name, errors in (("test", ("1111", "1110", "0001")), ("other", ("2222", "2222", "1111"))):
        for name, digits in zip(NAMES, errors, strict=True):
            decode(name, digits * 3, set_name)
    for set_name in ("dev", "dev_beam"):
        for name in NAMES:
            decode(name, "0" * 12, set_name, DEV)
    text = write_comparison([[[exp / name] for name in NAMES]], "raw", exp / "COMPARE.md")
    assert text == (exp / "COMPARE.md").read_text()
    lines = text.splitlines()
    assert lines[0] == "# Comparison: raw WER %"
    titles, _, other, test, against_dense, against_switch = map(cells, lines[2:8])
    assert titles == [
        "set",
        "utterances",
        "words",
        "dense, 2.00M",
        "switch, 2 experts, 2.00M",
        "omnirouter, 2 experts, 2.00M",
    ]
    assert other == ["other", "12", "48", "50.00 [50.00, 50.00]", "50.00 [50.00, 50.00]", "25.00*† [25.00, 25.00]"]
    assert test[:4] == ["test", "12", "48", "25.00 [25.00, 25.00]"]
    assert test[4].startswith("18.75 [") and test[5].startswith("6.25* [")
    # test: 25, 18.75, 6.25; other: 50, 50, 25. Against dense (25 + 0) / 2, (75 + 50) / 2; Switch (66.67 + 50) / 2
    assert against_dense == ["mean relative reduction against dense, 2.00M", "", "", "", "12.5 %", "62.5 %"]
    assert against_switch == ["mean relative reduction against switch, 2 experts, 2.00M", "", "", "", "", "58.3 %"]
    assert [cells(line)[0] for line in lines[8:10]] == ["dev (dev)", "dev (beam) (dev)"] and not lines[10]
    assert "Known by name" not in text and "| test | switch, 2 experts, 2.00M | dense, 2.00M | -6.25 |" in text
    assert "*: differs from dense, 2.00M; †: differs from Switch of its size and number of experts: over utt" in text


def test_each_pair_of_a_size_is_tested(decode: Decode, tmp_path: Path) -> None:
    """Omni-router is tested against Switch of as many experts too, as the paper compares them."""
    exp = tmp_path / "exp"
    errors = {"dense": "2222", "switch": "1110", "switch_four": "2222", "omni": "0001", "omni_four": "1111"}
    for name, digits in errors.items():
        config = decode(name, digits * 3) / "config.yaml"
        if name.endswith("four"):
            config.write_text(config.read_text().replace("experts: 2", "experts: 4"))
    text = write_comparison([[[exp / name] for name in errors]], "raw", exp / "COMPARE.md")
    lines = list(map(cells, text.splitlines()))
    # Omni-router of 2: nine pairs of 1 and 0, three of 0 and 1: t = 1.915 at 11 degrees of freedom; of 4 all differ
    assert [[*line[:2], line[3].split()[0]] for line in lines[5:9]] == [
        ["switch", "2", "18.75*"],
        ["switch", "4", "50.00"],
        ["omnirouter", "2", "6.25*"],
        ["omnirouter", "4", "25.00*†"],
    ]
    rows = [line for line in lines if line[0] == "test" and len(line) > 3]
    reductions = [line for line in lines if line[-1].endswith(" %") and len(line) == 3]
    assert [row[1:3] for row in rows] == [line[:2] for line in reductions] and len(rows) == 4 + 3 + 2 + 1
    pairs = {tuple(cell.removesuffix(", 2.00M") for cell in row[1:3]): row for row in rows}
    two, four = (pairs[f"omnirouter, {n} experts", f"switch, {n} experts"] for n in (2, 4))
    assert two[3] == "-12.50" and two[8] == "0.082"
    assert four[3:6] == ["-25.00", "-25.00 to -25.00", "1.0000"] and four[8] == "0"


def test_each_size_has_its_own_baseline(decode: Decode, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    errors = {"dense_s": "2222", "omni_s": "1111", "dense_l": "1111", "omni_l": "1110"}
    for name, digits in errors.items():
        decode(name, digits * 3)
        info = json.loads((exp / name / "model_info.json").read_text())
        info["parameters"] *= 1 if name.endswith("s") else 3
        (exp / name / "model_info.json").write_text(json.dumps(info))
    sizes = [[[exp / f"{encoder}_{size}"] for encoder in ("dense", "omni")] for size in "sl"]
    text = write_comparison(sizes, "raw", exp / "COMPARE.md")
    lines = text.splitlines()
    titles, _, *models = map(cells, lines[2:8])
    assert titles == ["model", "experts", "size", "test"]
    # three pairs of 1 and 0, nine of none: t = 1.915 at 11 degrees of freedom, p = 0.08; of the small one all differ
    assert [[*names, rate.split()[0]] for *names, rate in models] == [
        ["dense", "–", "2.00M", "50.00"],
        ["omnirouter", "2", "2.00M", "25.00*"],
        ["dense", "–", "6.00M", "25.00"],
        ["omnirouter", "2", "6.00M", "18.75"],
    ]
    assert cells(lines[9]) == ["encoder", "baseline", "mean relative reduction, greedy"]
    assert list(map(cells, lines[11:13])) == [
        ["omnirouter, 2 experts, 2.00M", "dense, 2.00M", "50.0 %"],
        ["omnirouter, 2 experts, 6.00M", "dense, 6.00M", "25.0 %"],
    ]
    assert [cells(lines[14]), cells(lines[16])] == [["set", "utterances", "words"], ["test", "12", "48"]]
    assert "differs from the first model of its size: over" in text
    differences = [cells(line)[1:4] for line in lines if line.startswith("| test | omni")]
    assert differences == [
        ["omnirouter, 2 experts, 2.00M", "dense, 2.00M", "-25.00"],
        ["omnirouter, 2 experts, 6.00M", "dense, 6.00M", "-6.25"],
    ]


def test_ways_of_decoding_have_means_of_their_own(decode: Decode, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    rates = {
        "test": ("2222", "1111"),
        "other": ("1111", "1111"),
        "test_beam": ("1111", "0000"),
        "a_lm": ("1111", "1110"),
    }
    for set_name, errors in rates.items():
        for name, digits in zip(("dense", "omni"), errors, strict=True):
            decode(name, digits * 3, set_name)
    text = write_comparison([[[exp / "dense"], [exp / "omni"]]], "raw", exp / "COMPARE.md")
    rows = [cells(line) for line in text.splitlines()[4:10]]
    mean = "mean relative reduction against dense, 2.00M"
    assert [row[0] for row in rows] == ["other", "test", mean, "test (beam)", f"{mean} (beam)", "a (lm)"]
    assert [row[-1] for row in rows if mean in row[0]] == ["25.0 %", "100.0 %"]


def test_one_speaker_and_no_error_leave_no_number_out_of_nothing(decode: Decode, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    alone = {f"ann-{i}": "a b c d" for i in range(4)}
    decode("dense", "0000", reference=alone)
    decode("omni", "1000", reference=alone)
    text = write_comparison([[[exp / "dense"], [exp / "omni"]]], "raw", exp / "COMPARE.md")
    (row,) = (cells(line) for line in text.splitlines() if line.startswith("| test | omni"))
    titles = next(cells(line) for line in text.splitlines() if line.startswith("| set | encoder"))
    shown = dict(zip(titles, row, strict=True))
    assert [title for title, cell in shown.items() if cell == "–"] == [
        "95 % by speaker", "better, by speaker", "95 % by seed", "p, seeds"
    ]  # fmt: skip
    assert "nan" not in text and "against dense, 2.00M |  |  |  | – |" in text


def test_columns_of_seeds_and_of_one_kind(decode: Decode, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    for name, digits in (("dense", "1"), ("dense_2", "2"), ("omni", "0"), ("omni_2", "1")):
        decode(name, digits * 12)
    columns = [[exp / "dense", exp / "dense_2"], [exp / "omni", exp / "omni_2"]]
    text = write_comparison([columns], "raw", exp / "COMPARE.md")
    test = next(cells(line) for line in text.splitlines() if line.startswith("| test | 12"))
    # s.d. of two 25 apart: 17.68, an error of 12.5, times 12.706 at one degree of freedom: 158.83; it does not differ
    assert test[3] == "37.50 [37.50, 37.50], seeds [-121.33, 196.33]"
    assert test[4] == "12.50 [12.50, 12.50], seeds [-146.33, 171.33]"
    reduction = next(cells(line) for line in text.splitlines() if line.startswith("| mean relative"))
    assert reduction[-1] == "66.7 %", "of the means over the seeds"
    # 25 and 50, 0 and 25: an error of 17.68, so t = 1.414 at two degrees of freedom
    row = next(cells(line) for line in text.splitlines() if line.startswith("| test | omnirouter"))
    assert row[3] == "-25.00" and row[-1] == "0.29"
    assert "dense, dense_2" in text
    single = write_comparison([[[exp / "dense"], [exp / "dense_2"]]], "raw", exp / "COMPARE.md")
    assert cells(single.splitlines()[2])[3:] == ["dense, 2.00M, dense", "dense, 2.00M, dense_2"]


def test_sets_that_share_utterances_with_dev_are_marked_and_in_no_mean(decode: Decode, tmp_path: Path) -> None:
    """LibriSpeech's dev is dev_clean and dev_other; Mini LibriSpeech's test_seg is dev_clean_2 under another name."""
    exp = tmp_path / "exp"
    sets = {
        "test": (REFERENCE, "2222", "1111"),
        "dev_clean": ({**dict(list(DEV.items())[:11]), "gus-0": "a b c d"}, "1111", "0000"),
        "alike": ({key: "a b c e" for key in DEV}, "1111", "1111"),  # in ids alone
    }
    for set_name, (reference, *errors) in sets.items():
        for name, digits in zip(("dense", "omni"), errors, strict=True):
            decode(name, digits * 3, set_name, reference)
    decode("omni", "0" * 12, "dev", DEV)  # one model's training is enough
    text = write_comparison([[[exp / "dense"], [exp / "omni"]]], "raw", exp / "COMPARE.md")
    rows = [cells(line) for line in text.splitlines()[4:8]]
    mean = "mean relative reduction against dense, 2.00M"
    assert [row[0] for row in rows] == ["alike", "test", mean, "dev_clean (dev)"]
    assert rows[2][-1] == "25.0 %"  # of 0 and 50
    assert "- Known by name only, without scores on it, is the dev set of: dense." in text
    assert "| dev_clean (dev) | omnirouter, 2 experts, 2.00M | dense, 2.00M | -25.00 |" in text


@pytest.mark.parametrize("way", ["beam", "lm"])
def test_dev_sets_are_known_by_beam_search_alone(decode: Decode, tmp_path: Path, way: str) -> None:
    exp = tmp_path / "exp"
    sets = {"test": (REFERENCE, "2222", "1111"), "dev_clean": (DEV, "1111", "0000"), "dev": (DEV, "1111", "0000")}
    for set_name, (reference, *errors) in sets.items():
        for name, digits in zip(("dense", "omni"), errors, strict=True):
            decode(name, digits * 3, f"{set_name}_{way}", reference)
    text = write_comparison([[[exp / "dense"], [exp / "omni"]]], "raw", exp / "COMPARE.md")
    rows = [cells(line) for line in text.splitlines()[4:8]]
    assert rows[0][0] == f"test ({way})" and rows[1][-1] == "50.0 %"
    assert {row[0] for row in rows[2:]} == {f"dev ({way}) (dev)", f"dev_clean ({way}) (dev)"}
    assert "Known by name only" not in text


def test_without_a_common_test_set_there_is_no_table(decode: Decode, tmp_path: Path) -> None:
    exp = tmp_path / "exp"
    decode("dense", "1" * 12, "dev")
    decode("omni", "1" * 12, "dev")
    with pytest.raises(UserError, match="no test set on which all of these have scores"):
        write_comparison([[[exp / "dense"], [exp / "omni"]]], "raw", exp / "COMPARE.md")
