"""Comparison of two scored experiments, as printed."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.scoring.compare import compare
from omnirouter.scoring.compare_table import write_comparison
from omnirouter.scoring.report import score_decoding

REFERENCE = {f"{speaker}-{i}": "a b c d" for speaker in ("ann", "bob", "cid") for i in range(4)}
Decode = Callable[..., Path]  # of conftest.py


def test_the_printed_comparison_by_hand(decode: Decode) -> None:
    exp = decode("dense", "1111" * 3).parent
    decode("omni", "0001" * 3)
    text = compare(["omni"], ["dense"], "test", exp, "wer")
    assert text.startswith("12 utterances of 3 speakers, 48 units: words of the transcripts as they are\n")
    assert "A    6.25 %  omni/decode_test\nB   25.00 %  dense/decode_test\n" in text
    assert "A - B         -18.75 points, -75.0 % of B\n" in text
    assert re.search(r"by speaker +\[-18\.75, -18\.75\], A beats B with probability 1\.0000\n", text)
    # nine differences of -1, three of 0: mean -0.75, s.d. sqrt(12 * 0.75 * 0.25 / 11) = 0.4523, times 1 / sqrt(12)
    assert "matched pairs t = -5.74, p = 0.00013\n" in text and "by seed" not in text


def test_paths_and_names_mean_the_same(decode: Decode, tmp_path: Path) -> None:
    a, b = decode("dense", "1" * 12), decode("omni", "01" * 6)
    wanted = compare(["dense"], ["omni"], "test", a.parent, "wer")
    assert compare([str(a)], [str(b)], "test", tmp_path, "wer") == wanted
    assert compare([str(a / "decode_test")], [str(b / "decode_test")], None, tmp_path, "wer") == wanted


def test_experiments_are_named_as_they_are_called_wherever_one_stands(
    decode: Decode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = decode("dense", "1" * 12).parent
    decode("omni", "01" * 6).rename(tmp_path / "a_of_tuesday")
    (exp / "omni").symlink_to("../a_of_tuesday")
    wanted = compare(["dense"], ["omni"], "test", exp, "wer")
    assert " dense/decode_test\n" in wanted and " omni/decode_test\n" in wanted
    for folder, here, set_name in (
        ("dense", ".", "test"),
        ("dense", "decode_test", None),
        ("dense/decode_test", ".", None),
    ):
        monkeypatch.chdir(exp / folder)
        assert compare([here], [str(exp / "omni/decode_test")], set_name, tmp_path, "wer") == wanted
    monkeypatch.chdir(exp / "dense/decode_test")
    assert compare([".."], ["../../omni"], "test", tmp_path, "wer") == wanted


def test_a_folder_with_an_experiments_name_does_not_stand_for_it(
    decode: Decode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    exp = decode("omni", "01" * 6).parent
    decode("dense", "1" * 12)
    wanted = compare(["omni"], ["dense"], "test", exp, "wer")
    (tmp_path / "omni").mkdir()  # as the package's omnirouter/ at the top of a clone
    monkeypatch.chdir(tmp_path)
    assert compare(["omni"], ["dense"], "test", exp, "wer") == wanted
    with pytest.raises(UserError, match=f"^omni, {exp}/omni: no decode_dev/score; decode"):
        compare(["omni"], ["dense"], "dev", exp, "wer")
    with pytest.raises(UserError, match="^omni: give the set as --set"):
        compare(["omni"], ["dense"], None, exp, "wer")


def test_other_rates(decode: Decode) -> None:
    exp = decode("dense", "1" * 12).parent
    decode("omni", "0" * 12)
    text = compare(["omni"], ["dense"], "test", exp, "cer")
    assert "84 units: characters" in text and "B   28.57 %" in text  # " d" of "a b c d"


def test_seeds_are_compared_by_their_means(decode: Decode) -> None:
    exp = decode("dense", "1" * 12).parent
    decode("dense_2", "2" * 12)
    decode("omni", "0" * 12)
    decode("omni_2", "1" * 12)
    text = compare(["omni", "omni_2"], ["dense", "dense_2"], "test", exp, "wer")
    assert "A   12.50 %  omni/decode_test, omni_2/decode_test, mean of 0.00, 25.00\n" in text
    # 12.5 and 37.5; each s.d. 17.68, so an error of 17.68 at two degrees of freedom
    assert "by seed       [-101.06, +51.06], p = 0.29\n" in text


OTHER = {
    "another utterance": (
        {**dict(list(REFERENCE.items())[1:]), "ann-9": "a b c d"},
        "2 utterances are in one only, such",
    ),
    "another reference": ({**REFERENCE, "bob-2": "a b c e"}, "scored by other references, such as of bob-2"),
}


@pytest.mark.parametrize(("reference", "message"), OTHER.values(), ids=OTHER.keys())
def test_sets_that_differ_are_refused(decode: Decode, reference: dict[str, str], message: str) -> None:
    exp = decode("dense", "1" * 12).parent
    decode("omni", "1" * 12, reference=reference)
    with pytest.raises(UserError, match=message):
        compare(["omni"], ["dense"], "test", exp, "wer")
    with pytest.raises(UserError, match=message):
        write_comparison([[[exp / "dense"], [exp / "omni"]]], "raw", exp / "COMPARE.md")
    assert not (exp / "COMPARE.md").exists()


def test_another_speaker_is_refused(decode: Decode) -> None:
    exp = decode("dense", "1" * 12).parent
    decode("omni", "1" * 12)
    table = exp / "omni/decode_test/score/utt2errors"
    table.write_text(table.read_text().replace("cid-3 cid", "cid-3 bob"))
    with pytest.raises(UserError, match="other speakers"):
        compare(["omni"], ["dense"], "test", exp, "wer")


def test_another_alignment_is_refused(decode: Decode) -> None:
    exp = decode("dense", "1" * 12).parent
    omni = decode("omni", "1" * 12) / "decode_test"
    score_decoding(exp.parent / "data/omni/test", omni / "text", omni / "score", "sclite")
    with pytest.raises(UserError, match="omni.* counts words .* aligned as by sclite.*; .*dense.* counts words "):
        compare(["omni"], ["dense"], "test", exp, "wer")
    with pytest.raises(UserError, match="score both with the same --align"):
        write_comparison([[[exp / "dense"], [exp / "omni"]]], "raw", exp / "COMPARE.md")


def test_what_cannot_be_found_is_said(decode: Decode, tmp_path: Path) -> None:
    exp = decode("dense", "1" * 12).parent
    decode("omni", "1" * 12)
    for name, set_name, message in (
        ("nope", "test", "nope: neither a directory with a score, nor an experiment, nor a name in"),
        ("dense", None, "dense: give the set as --set"),
        ("dense", "dev", "dense: no decode_dev/score; decode and score that set"),
    ):
        with pytest.raises(UserError, match=message):
            compare(["dense"], [name], set_name, exp, "wer")
    for name, message in (
        ("utt2errors", "missing, as in scores of an older version"),
        ("per_utt", "missing; score it"),
    ):
        (exp / "dense/decode_test/score" / name).rename(tmp_path / name)
        with pytest.raises(UserError, match=message):
            compare(["dense"], ["omni"], "test", exp, "wer")
        (tmp_path / name).rename(exp / "dense/decode_test/score" / name)
    (exp / "dense/decode_test/score/utt2errors").write_text("ann-0 ann x\n")
    with pytest.raises(UserError, match="utt2errors: not a file of stage 6"):
        compare(["dense"], ["omni"], "test", exp, "wer")


NOT_SEEDS = {
    "other encoders": ("dense omni_2", "dense and .*omni_2 are no seeds of one training: .* in model.encoder; compare"),
    "other numbers": ("dense dense_3", "dense and .*dense_3 are no seeds .* in model.experts; compare them apart"),
    "one seed": ("dense dense_again", "dense and .*dense_again are both of seed 1; name one decoding of each seed"),
    "one folder": ("dense dense", "dense(/decode_test)? is named twice"),
    "without a seed": ("dense dense_old", "dense_old/config.yaml: no training.seed in it"),
}


@pytest.mark.parametrize(("column", "message"), NOT_SEEDS.values(), ids=NOT_SEEDS.keys())
def test_only_seeds_of_one_training_are_taken_as_one(decode: Decode, column: str, message: str) -> None:
    exp = decode("omni", "1" * 12).parent
    changes = {"dense_3": ("experts: 2", "experts: 4"), "dense_old": ("training:", "old:")}
    for name in column.split():
        config = decode(name, "1" * 12) / "config.yaml"
        config.write_text(config.read_text().replace(*changes.get(name, ("", ""))))
    with pytest.raises(UserError, match=message):
        compare(column.split(), ["omni"], "test", exp, "wer")
    with pytest.raises(UserError, match=message):
        write_comparison([[[exp / name for name in column.split()], [exp / "omni"]]], "raw", exp / "COMPARE.md")


def test_nothing_is_compared_with_itself(decode: Decode) -> None:
    exp = decode("dense", "1" * 12).parent
    decode("dense_2", "1" * 12)
    with pytest.raises(UserError, match="dense/decode_test is named twice"):
        compare(["dense", "dense_2"], [str(exp / "dense")], "test", exp, "wer")
    with pytest.raises(UserError, match="dense is named twice"):
        write_comparison([[[exp / "dense"]], [[exp / "dense"]]], "raw", exp / "COMPARE.md")
