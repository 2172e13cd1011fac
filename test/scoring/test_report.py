from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.scoring.report import ALIGNERS, headlines, score_decoding, speaker_table
from omnirouter.scoring.wer import utterance_errors

TEXT = "anna-1 the cat sat\nanna-2 B A FIVE THREE\nanna-3 A ONE\nbert-1 don't go\n"
HYPOTHESES = "bert-1\nanna-2 B FIVE SIX\nanna-1 the hat sat down\nanna-3 A 1\n"
UTT2SPK = "anna-1 anna\nanna-2 anna\nanna-3 anna\nbert-1 bert\n"

PER_UTT = [  # cells are centred, with the odd space on the left, to the end of the line
    "anna-1 ref  the  cat  sat   ***",
    "anna-1 hyp  the  hat  sat  down",
    "anna-1 op    C    S    C     I ",
    "anna-1 #csid 2 1 1 0",
    "anna-2 ref  B   A   FIVE  THREE",
    "anna-2 hyp  B  ***  FIVE   SIX ",
    "anna-2 op   C   D     C     S  ",
    "anna-2 #csid 2 1 0 1",
    "anna-3 ref  A  ONE",
    "anna-3 hyp  A   1 ",
    "anna-3 op   C   S ",
    "anna-3 #csid 1 1 0 0",
    "bert-1 ref  don't   go",
    "bert-1 hyp   ***   ***",
    "bert-1 op     D     D ",
    "bert-1 #csid 0 0 0 2",
]

PER_SPK = """\
SPEAKER         id       #SENT      #WORD       Corr        Sub        Ins        Del        Err      S.Err
anna            raw          3          9          5          3          1          1          5          3
anna            sys          3          9      55.56      33.33      11.11      11.11      55.56     100.00
bert            raw          1          2          0          0          0          2          2          1
bert            sys          1          2       0.00       0.00       0.00     100.00     100.00     100.00
SUM             raw          4         11          5          3          1          3          7          4
SUM             sys          4         11      45.45      27.27       9.09      27.27      63.64     100.00
"""


@pytest.fixture
def decoded(tmp_path):
    """A data directory `data`, hypotheses `text`, beside them."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "text").write_text(TEXT)
    (tmp_path / "data" / "utt2spk").write_text(UTT2SPK)
    (tmp_path / "text").write_text(HYPOTHESES)
    return tmp_path


def score(folder):
    return score_decoding(folder / "data", folder / "text", folder / "score")


def test_every_file_is_written_as_returned_and_again_the_same(decoded):
    files = score(decoded)
    assert sorted(files) == ["cer", "confusions", "ops", "per_spk", "per_utt", "utt2errors", "wer", "wer_whisper"]
    assert {path.name: path.read_text() for path in (decoded / "score").iterdir()} == files
    assert score(decoded) == files
    assert sorted(path.name for path in decoded.iterdir()) == ["data", "score", "text"]


def test_rate_files(decoded):
    files = score(decoded)
    rate, interval, sentences, scored, by_speaker = files["wer"].splitlines()
    assert rate == "%WER 63.64 [ 7 / 11, 1 ins, 3 del, 3 sub ]"
    # By utterance 2/3, 2/4, 1/2, 2/2. Of 4^4 replicas 16 have the least rate, 1/2 (6 %). bert-1 at least three times:
    # once with itself 1, four times with anna-1 8/9 (together 2 %), four times with anna-3 7/8 (3.5 %: over 2.5 %).
    assert interval == "95% Conf Interval [ 50.00, 87.50 ] from 10000 bootstrap replicas of the utterances"
    assert sentences == "%SER 100.00 [ 4 / 4 ]"
    assert scored == "Scored 4 utterances, words of the transcripts as they are."
    # anna 5/9 and bert 2/2: twice anna, both, twice bert
    assert by_speaker == "95% Conf Interval [ 55.56, 100.00 ] from 10000 bootstrap replicas of the 2 speakers"
    # the cat sat / the hat sat down; b a 53 / b 56; a one / a one; do not go / nothing
    assert files["wer_whisper"].startswith("%WER 63.64 [ 7 / 11, 1 ins, 4 del, 2 sub ]\n")
    assert "%SER 75.00 [ 3 / 4 ]\n" in files["wer_whisper"]
    # cat/hat and " down"; "A " and THREE/SIX; ONE/1; all of bert-1
    assert files["cer"].startswith("%WER 63.16 [ 24 / 38, 5 ins, 14 del, 5 sub ]\n")


def test_per_utterance_and_per_speaker_files_as_kaldis(decoded):
    files = score(decoded)
    assert files["per_utt"].splitlines() == PER_UTT
    assert files["per_spk"] == PER_SPK


def test_operations_by_kind_then_count(decoded):
    (decoded / "data" / "text").write_text("a-1 x y z\na-2 x y\na-3 y x\n")
    (decoded / "data" / "utt2spk").write_text("a-1 a\na-2 a\na-3 a\n")
    (decoded / "text").write_text("a-1 x q z\na-2 x q\na-3 y\n")
    assert [line.split() for line in score(decoded)["ops"].splitlines()] == [
        ["correct", "x", "x", "2"],
        ["correct", "y", "y", "1"],
        ["correct", "z", "z", "1"],
        ["deletion", "x", "***", "1"],
        ["substitution", "y", "q", "2"],
    ]


def test_confusions_by_hand(decoded):
    (decoded / "data" / "text").write_text("a-1 x y z\na-2 x y\na-3 y x\n")
    (decoded / "data" / "utt2spk").write_text("a-1 a\na-2 a\na-3 a\n")
    (decoded / "text").write_text("a-1 x q z w\na-2 x q\na-3 y\n")
    titles, *rows = score(decoded)["confusions"].splitlines()
    assert titles.split() == ["count", "share", "of", "reference", "hypothesis"]
    assert [row.split() for row in rows] == [
        ["2", "50.0%", "3", "y", "q"],
        ["1", "25.0%", "–", "***", "w"],
        ["1", "25.0%", "3", "x", "***"],
    ]


def test_no_more_confusions_than_a_hundred(decoded):
    words = [f"w{n}" for n in range(130)]
    (decoded / "data" / "text").write_text("anna-1 " + " ".join(words) + "\n")
    (decoded / "text").write_text("anna-1 " + " ".join(f"{word}x" for word in words) + "\n")
    assert len(score(decoded)["confusions"].splitlines()) == 101


def test_rates_by_duration_by_hand(decoded):
    (decoded / "data" / "utt2dur").write_text("anna-1 0.5\nanna-2 1.99\nanna-3 0.999\nbert-1 4.0\n")
    lines = score(decoded)["wer_by_duration"].splitlines()
    assert [line.split()[:6] for line in lines[1:]] == [
        ["0.5", "to", "1", "2", "5", "60.00"],  # 2 of 3, 1 of 2
        ["1", "to", "2", "1", "4", "50.00"],
        ["4", "to", "8", "1", "2", "100.00"],
        ["all", "4", "11", "63.64", "50.00", "to"],
    ]
    assert lines[1].split()[6:] == ["50.00", "to", "66.67", "1", "0", "2"]


@pytest.mark.parametrize(
    ("durations", "message"),
    [
        ("anna-1 1\nanna-2 1\nanna-3 1\n", "no duration for 1 utterances: bert-1"),
        ("anna-1 1\nanna-2 x\nanna-3 1\nbert-1 2\n", "'x' is no duration of 'anna-2'"),
        ("anna-1 1\nanna-2 0\nanna-3 1\nbert-1 2\n", "'0' is no duration of 'anna-2'"),
    ],
)
def test_a_broken_utt2dur_is_an_error(decoded, durations, message):
    (decoded / "data" / "utt2dur").write_text(durations)
    with pytest.raises(UserError, match=f"utt2dur: {message}"):
        score(decoded)


def test_errors_of_each_utterance(decoded):
    assert score(decoded)["utt2errors"].splitlines() == [
        "anna-1 anna 2/3 2/3 6/11",
        "anna-2 anna 2/4 2/3 7/14",
        "anna-3 anna 1/2 0/2 3/5",
        "bert-1 bert 2/2 3/3 8/8",
    ]


def test_the_aligner_is_said_and_used(decoded):
    (decoded / "data" / "text").write_text("anna-1 a b c\n")
    (decoded / "text").write_text("anna-1 c d e\n")
    unit, sclite = (score_decoding(decoded / "data", decoded / "text", decoded / "score", a) for a in ALIGNERS)
    # three substitutions cost 3; at 4/3/3 they cost as much as two deletions and two insertions, 12, and come first
    assert unit["wer"] == sclite["wer"].replace(
        ", aligned as by sclite, where a substitution costs 4, another edit 3", ""
    )
    assert unit["wer"].startswith("%WER 100.00 [ 3 / 3, 0 ins, 0 del, 3 sub ]\n")
    (decoded / "data" / "text").write_text("anna-1 a b c d\n")
    (decoded / "text").write_text("anna-1 c d e f\n")
    unit, sclite = (score_decoding(decoded / "data", decoded / "text", decoded / "score", a) for a in ALIGNERS)
    assert unit["wer"].startswith("%WER 100.00 [ 4 / 4, ")
    assert "sclite" not in unit["wer"]
    assert sclite["wer"].startswith("%WER 100.00 [ 4 / 4, 2 ins, 2 del, 0 sub ]\n")
    assert "as they are, aligned as by sclite, where a substitution costs 4, another edit 3.\n" in sclite["wer"]


def test_sums_agree_between_the_files(decoded):
    files = score(decoded)
    csid = [line.split()[2:] for line in files["per_utt"].splitlines() if "#csid" in line]
    correct, substitutions, insertions, deletions = (sum(map(int, column)) for column in zip(*csid, strict=True))
    assert f"{insertions} ins, {deletions} del, {substitutions} sub" in files["wer"]
    total = files["per_spk"].splitlines()[-2].split()
    words, errors = correct + substitutions + deletions, substitutions + insertions + deletions
    assert list(map(int, total[2:9])) == [4, words, correct, substitutions, insertions, deletions, errors]
    counted = {name: 0 for name in ("correct", "substitution", "insertion", "deletion")}
    for line in files["ops"].splitlines():
        counted[line.split()[0]] += int(line.split()[3])
    assert list(counted.values()) == [correct, substitutions, insertions, deletions]


def test_a_missing_hypothesis_is_an_error_and_leaves_the_old_score(decoded):
    score(decoded)
    before = (decoded / "score" / "wer").read_text()
    (decoded / "text").write_text("anna-2 b a 53\n")
    with pytest.raises(UserError, match=r"text: no hypothesis for 3 utterances: anna-1, anna-3, bert-1; "):
        score(decoded)
    assert (decoded / "score" / "wer").read_text() == before


@pytest.mark.parametrize(
    ("folder", "command"),
    [
        ("exp/a b/decode_test", "--exp 'exp/a b' --data sets/test, or in a recipe ./run.sh --stage 5 --force, with"),
        ("exp/a/decode_test_lm", "--exp exp/a --data sets/test --decoding lm, or .* --stage 5 --force --decoding lm, "),
        (".", "--exp EXP --data sets/test, or "),
    ],
)
def test_a_missing_hypothesis_says_what_decodes_again(decoded, monkeypatch, folder, command):
    monkeypatch.chdir(decoded)
    Path(folder).mkdir(parents=True, exist_ok=True)
    Path(folder, "text").write_text("anna-2 b a 53\n")
    Path("sets").mkdir()
    Path("data").rename("sets/test")
    with pytest.raises(UserError, match=f"decode the whole set again: python -m omnirouter.bin.decode {command}"):
        score_decoding(Path("sets/test"), Path(folder, "text"), Path("score"))


def test_an_unknown_utterance_is_an_error_that_lists_ten(decoded):
    extra = "".join(f"carl-{n:02} x\n" for n in range(12))
    (decoded / "text").write_text(HYPOTHESES + extra)
    with pytest.raises(UserError, match=r"no reference for 12 utterances: carl-00, .*, carl-09 and 2 more; "):
        score(decoded)
    assert not (decoded / "score").exists()


def test_an_utterance_without_speaker_is_an_error(decoded):
    (decoded / "data" / "utt2spk").write_text(UTT2SPK.replace("bert-1 bert\n", ""))
    with pytest.raises(UserError, match=r"utt2spk: no speaker for 1 utterances: bert-1; "):
        score(decoded)


def test_an_empty_reference_is_an_error(decoded):
    (decoded / "data" / "text").write_text(TEXT.replace(" don't go", ""))
    with pytest.raises(UserError, match=r"text:4: .*bert-1"):
        score(decoded)


def test_a_speaker_without_a_reference_word_has_no_percentages():
    counts = utterance_errors([[], ["a"]], [["x"], ["a"]])
    table = speaker_table(dict(zip(["u1", "u2"], counts, strict=True)), {"u1": "s1", "u2": "s2"})
    rows = [" ".join(line.split()[:2]) for line in table.splitlines()[1:]]
    assert rows == ["s1 raw", "s2 raw", "s2 sys", "SUM raw", "SUM sys"]


def test_headlines_are_rates_with_intervals(decoded):
    lines = headlines(score(decoded)).splitlines()
    assert [line.split()[0] for line in lines] == ["wer", "wer_whisper", "cer"]
    assert lines[0] == "wer          %WER 63.64 [ 7 / 11, 1 ins, 3 del, 3 sub ]    95% Conf Interval [ 50.00, 87.50 ]"
