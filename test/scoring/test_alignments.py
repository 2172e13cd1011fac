"""Aligned transcripts, read back from what scoring has written."""

from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.scoring.alignments import Alignment, check_same_references, read_alignments
from omnirouter.scoring.report import score_files


def test_alignments_are_read_back_as_scoring_has_made_them(tmp_path):
    refs = {"u1": "a b c", "u2": "*** x", "u3": "p"}
    hyps = {"u1": "a d c e", "u2": "x", "u3": ""}
    files = score_files(refs, hyps, dict.fromkeys(refs, "s"))
    (tmp_path / "per_utt").write_text(files["per_utt"])
    assert read_alignments(tmp_path / "per_utt") == {
        "u1": Alignment(["a", "b", "c"], ["a", "d", "c", "e"], "CSCI"),
        "u2": Alignment(["***", "x"], ["x"], "DC"),
        "u3": Alignment(["p"], [], "D"),
    }
    assert read_alignments(tmp_path / "per_utt")["u1"].errors == 2


@pytest.mark.parametrize("line", ["u1 op C Q", "u1 op C", "u1 hyp a b c"])
def test_a_broken_alignment_is_named(tmp_path, line):
    lines = {"ref": "u1 ref a b", "hyp": "u1 hyp a b", "op": "u1 op C C", line.split()[1]: line}
    (tmp_path / "per_utt").write_text("\n".join(lines.values()) + "\n")
    with pytest.raises(UserError, match="per_utt:1: utterance u1 .*score again"):
        read_alignments(tmp_path / "per_utt")


def test_different_references_are_refused():
    one, other = Alignment(["a"], ["a"], "C"), Alignment(["b"], ["a"], "S")
    check_same_references({Path("A"): {"u": one}, Path("B"): {"u": Alignment(["a"], [], "D")}})
    with pytest.raises(UserError, match="A and B .*1 utterances, first u"):
        check_same_references({Path("A"): {"u": one}, Path("B"): {"u": other}})
    with pytest.raises(UserError, match="first v"):
        check_same_references({Path("A"): {"u": one, "v": one}, Path("B"): {"u": one}})
