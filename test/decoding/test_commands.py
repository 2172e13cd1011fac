"""The commands: decoding in all its ways, alignment, and a language model from estimation to use."""

import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from omnirouter.data.errors import UserError
from omnirouter.data.tables import read_table
from omnirouter.decoding.ctm import read_ctm
from omnirouter.scoring.wer import word_errors

Run = Callable[..., str]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """A function that runs a command in this process and returns what it prints, stderr first."""

    def run(name: str, *args: object) -> str:
        monkeypatch.setattr(sys, "argv", [name, *map(str, args)])
        importlib.import_module(f"omnirouter.bin.{name}").main()
        captured = capsys.readouterr()
        return captured.err + captured.out

    return run


def words(ctm: Path) -> dict[str, str]:
    return {utt_id: " ".join(word.text for word in found) for utt_id, found in read_ctm(ctm).items()}


def test_transcripts_and_hypotheses_are_aligned(exp: Path, data_dir: Path, run: Run) -> None:
    text = read_table(data_dir / "text")
    printed = run("align", "--exp", exp, "--data", data_dir)
    assert f"{exp}/align_tiny/ctm: 4 utterances aligned, 0 left out" in printed
    assert words(exp / "align_tiny/ctm") == text
    with pytest.raises(UserError, match=r"decode_tiny/text does not exist; stage 5"):
        run("align", "--exp", exp, "--data", data_dir, "--hyp")
    assert "real-time factor 0." in run("decode", "--exp", exp, "--data", data_dir)
    printed = run("align", "--exp", exp, "--data", data_dir, "--hyp")
    aligned = words(exp / "decode_tiny/ctm")
    assert f"{len(aligned)} utterances aligned" in printed and aligned
    assert all(read_table(exp / "decode_tiny/text")[utt_id] == found for utt_id, found in aligned.items())
    for found in read_ctm(exp / "decode_tiny/ctm").values():
        assert all(round(word.start_s / 0.04, 6).is_integer() and word.start_s < 1.3 for word in found)


def test_results_are_named_after_the_directory_in_which_one_stands(
    exp: Path, data_dir: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(data_dir)
    assert f"{exp}/decode_tiny/text: 4 utterances" in run("decode", "--exp", exp, "--data", ".")
    assert f"{exp}/align_tiny/ctm: 4 utterances" in run("align", "--exp", exp, "--data", ".")
    monkeypatch.chdir(exp)
    run("analyse_routing", "--exp", ".", "--data", data_dir / "../tiny/.")
    assert sorted(path.name for path in exp.glob("*_*")) == ["align_tiny", "decode_tiny", "routing_tiny"]
    run("random_routing", "--exp", ".", "--data", data_dir, "--shares", 1, "--draws", 1)
    (title,) = json.loads((exp / "random_routing_tiny/fig3_random_routing.json").read_text())["experiments"]
    assert title == "exp (Omni-router)"
    (exp / "metrics.jsonl").write_text('{"step": 1, "valid": {}}\n')
    run("figures", ".", "--output", data_dir.parent / "figures")
    assert json.loads((data_dir.parent / "figures/load.json").read_text()).keys() == {title}


def test_what_is_left_out_is_named(exp: Path, data_dir: Path, run: Run) -> None:
    lines = (data_dir / "text").read_text().replace("tone number 2", "tone nümber 2")
    (data_dir / "text").write_text(lines)
    printed = run("align", "--exp", exp, "--data", data_dir)
    assert "not aligned: spk1-utt2: the tokenizer has no units for 'nümber'" in printed
    assert "3 utterances aligned, 1 left out" in printed and len(words(exp / "align_tiny/ctm")) == 3
    path, offset = read_table(data_dir / "feats.scp")["spk0-utt1"].rsplit(":", 1)
    with open(path, "r+b") as ark:
        ark.seek(int(offset))
        ark.write(b"\1" * 15)
    for command in ("decode", "align"):
        assert "spk0-utt1: cannot read its features" in run(command, "--exp", exp, "--data", data_dir)
    assert len(read_table(exp / "decode_tiny/text", allow_empty=True)) == 3


def test_a_language_model_is_estimated_tuned_and_used(
    exp: Path, data_dir: Path, tmp_path: Path, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("kenlm")
    arpa = tmp_path / "2gram.arpa"
    printed = run("estimate_lm", data_dir, "--order", 2, "--output", arpa)
    # tone, number, 0 to 3, and three marks; then <s> tone, tone number, four to a digit and four from one to </s>
    assert f"{arpa}: 19 n-grams up to 2 words, from 4 transcripts" in printed
    assert "perplexity" not in printed
    (tmp_path / "dev").mkdir()
    (tmp_path / "dev/text").write_text("a tone number 0\nb tone 7 number\n")
    printed = run("estimate_lm", data_dir, "--order", 2, "--output", arpa, "--dev", tmp_path / "dev")
    assert f"{tmp_path}/dev: perplexity " in printed and "16.7% of the words unknown" in printed
    with pytest.raises(UserError, match="tune_lm, on the dev set"):
        run("decode", "--exp", exp, "--data", data_dir, "--decoding", "lm")
    monkeypatch.chdir(data_dir)
    printed = run(
        "tune_lm", "--exp", exp, "--data", ".", "--lm", arpa, "--lm-weights", 0.5, 1, "--word-scores", 9, 12,
        "--beam-size", 20,
    )  # fmt: skip
    assert f"{arpa}: 0.0% of the words of the set unknown" in printed
    assert "at the edge of what was tried: " in printed  # of two values, either is
    kept = json.loads((exp / "lm/weights.json").read_text())
    assert len(kept["trials"]) == 4 and kept["dev_wer_percent"] == min(trial[2] for trial in kept["trials"])
    assert kept["beam_size"] == 20 and kept["tuned_on"] == str(data_dir)
    chosen = f"lm_weight {kept['lm_weight']:g}, word_score {kept['word_score']:g}"
    assert f"{chosen}: %WER {kept['dev_wer_percent']:.2f}" in printed
    hypotheses = {}
    for decoding, folder in (("greedy", "decode_tiny"), ("beam", "decode_tiny_beam"), ("lm", "decode_tiny_lm")):
        options = ["--beam-size", 20] if decoding == "beam" else []  # the weights bring their own
        run("decode", "--exp", exp, "--data", data_dir, "--decoding", decoding, *options)
        hypotheses[decoding] = read_table(exp / folder / "text", allow_empty=True)
    assert hypotheses["greedy"].keys() == hypotheses["beam"].keys() == hypotheses["lm"].keys()
    assert hypotheses["beam"] != hypotheses["lm"]
    text = read_table(data_dir / "text")
    errors = word_errors(text.values(), (hypotheses["lm"][utt_id] for utt_id in text))
    assert round(errors.percent, 2) == kept["dev_wer_percent"]


def test_an_option_that_would_do_nothing_is_refused(exp: Path, data_dir: Path, run: Run) -> None:
    with pytest.raises(SystemExit, match="2"):
        run("decode", "--exp", exp, "--data", data_dir, "--beam-size", 20)
