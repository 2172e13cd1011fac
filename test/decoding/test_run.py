"""Decoding a data directory: what is written, and what becomes of utterances that cannot be read."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from omnirouter.data.dataset import ordered_batches, read_feature_dir
from omnirouter.data.errors import UserError
from omnirouter.data.tables import read_table
from omnirouter.decoding.run import Decoded, align_to_file, decode_to_file
from omnirouter.scoring.report import score_decoding
from omnirouter.training.experiment import load_experiment

FIRST, THIRD = "spk0-utt0", "spk1-utt2"


def decode(exp: Path, data_dir: Path, output: Path) -> tuple[Decoded, dict[str, str]]:
    model, tokenizer = load_experiment(exp)
    decoded = decode_to_file(model, tokenizer, read_feature_dir(data_dir, n_mels=80), 2.5, output)
    return decoded, read_table(output, allow_empty=True)


def spoil_stored(data_dir: Path, utt_id: str, kind: str) -> None:
    """Overwrite an utterance in its archive: its head, or its numbers."""
    path, offset = read_table(data_dir / "feats.scp")[utt_id].rsplit(":", 1)
    with open(path, "r+b") as ark:
        ark.seek(int(offset) + (0 if kind == "garbled" else 15))
        ark.write(b"\1" * 15 if kind == "garbled" else np.full(9, np.nan, np.float32).tobytes())


def spoil_audio(data_dir: Path, utt_id: str, kind: str) -> None:
    path = Path(read_table(data_dir / "wav.scp")[utt_id])
    if kind == "missing":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:9000] if kind == "cut off" else b"no audio")


@pytest.mark.parametrize("utt_id", [FIRST, THIRD])
@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("garbled", "no Kaldi matrix begins there"),
        ("NaN", "its features are not finite"),
        ("missing", "cannot be read"),
        ("no audio", "not readable as audio"),
        ("cut off", "truncated"),
    ],
)
def test_a_broken_utterance_does_not_stop_the_others_but_fails_scoring(
    exp: Path, data_dir: Path, tmp_path: Path, utt_id: str, kind: str, words: str
) -> None:
    if kind in ("garbled", "NaN"):
        whole = decode(exp, data_dir, tmp_path / "whole")[1]
        spoil_stored(data_dir, utt_id, kind)
    else:
        (data_dir / "feats.scp").unlink()  # features are then computed when they are needed
        whole = decode(exp, data_dir, tmp_path / "whole")[1]
        spoil_audio(data_dir, utt_id, kind)
    decoded, hypotheses = decode(exp, data_dir, tmp_path / "text")
    assert list(decoded.broken) == [utt_id] and words in decoded.broken[utt_id]
    assert len(whole) == 4 and all(whole.values())
    assert hypotheses == {key: text for key, text in whole.items() if key != utt_id}
    with pytest.raises(UserError, match=f"no hypothesis for 1 utterances: {utt_id}"):
        score_decoding(data_dir, tmp_path / "text", tmp_path / "score")
    with pytest.raises(UserError, match=f"utterance {utt_id}: .*{words}"):  # where nobody asks to go on
        list(ordered_batches(read_feature_dir(data_dir), 2.5))


def test_the_real_time_factor_is_of_what_was_decoded(
    exp: Path, data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tones of 1.0 to 1.3 s have 98, 108, 118 and 128 frames, in all 4.52 s; without the third one, 3.34 s."""
    clock = SimpleNamespace(monotonic=iter([100.0, 109.04, 200.0, 201.67]).__next__)
    monkeypatch.setattr("omnirouter.decoding.run.time", clock)
    assert decode(exp, data_dir, tmp_path / "text")[0].real_time_factor == pytest.approx(2)
    spoil_stored(data_dir, THIRD, "garbled")
    assert decode(exp, data_dir, tmp_path / "text")[0].real_time_factor == pytest.approx(0.5)


def test_nothing_is_written_where_nothing_can_be_read(exp: Path, data_dir: Path, tmp_path: Path) -> None:
    for utt_id in read_table(data_dir / "feats.scp"):
        spoil_stored(data_dir, utt_id, "garbled")
    with pytest.raises(UserError, match=f"no utterance can be decoded; {FIRST}: cannot read its features"):
        decode(exp, data_dir, tmp_path / "text")
    assert not (tmp_path / "text").exists()


def test_alignment_leaves_out_what_it_cannot_align(exp: Path, data_dir: Path, tmp_path: Path) -> None:
    model, tokenizer = load_experiment(exp)
    texts = read_table(data_dir / "text")
    texts |= {THIRD: "tone " * 9, "spk1-utt3": "tone number X"}
    del texts["spk0-utt1"]
    failed = align_to_file(model, tokenizer, read_feature_dir(data_dir), texts, 20.0, tmp_path / "ctm")
    assert failed == {
        "spk0-utt1": "it has no transcript",
        THIRD: "29 tokens of audio are too few for 44 labels, which need 44",
        "spk1-utt3": "the tokenizer has no units for 'X'",
    }
    lines = [line.split() for line in (tmp_path / "ctm").read_text().splitlines()]
    assert [(line[0], line[4]) for line in lines] == [(FIRST, "tone"), (FIRST, "number"), (FIRST, "0")]
    with pytest.raises(UserError, match=f"no utterance can be aligned; {FIRST}: the tokenizer has no units"):
        align_to_file(model, tokenizer, read_feature_dir(data_dir), dict.fromkeys(texts, "X"), 20.0, tmp_path / "x")
    assert not (tmp_path / "x").exists()
