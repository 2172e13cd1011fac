"""Stage 7's folder of one experiment, and the figures of several, from files to files."""

import json
import shutil
from collections.abc import Sequence
from pathlib import Path

import kaldiio
import numpy as np
import pytest
import torch
import yaml

from omnirouter.analysis import comparison
from omnirouter.analysis.comparison import write_comparison
from omnirouter.analysis.routing import analyse_routing, transcripts
from omnirouter.analysis.set_figures import wanted_utterances, write_random_routing, write_set
from omnirouter.analysis.subject import Subject
from omnirouter.data.dataset import ordered_batches, read_feature_dir
from omnirouter.data.errors import UserError
from omnirouter.data.tokenizer import Tokenizer, train_tokenizer
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel

METRICS = {"step": 1, "ctc_loss": 3.0, "balance_loss": 2.0, "routing": {"1": {"load": [0.5, 0.5], "entropy": 0.6}}}

KINDS = ("silence", "phone", "unit", "speaker")


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A set of four utterances with features, transcripts and phones."""
    folder = tmp_path / "data" / "test"
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    matrices = {f"u{i}": rng.normal(size=(60 + 10 * i, 80)).astype(np.float32) for i in range(4)}
    kaldiio.save_ark(str(tmp_path / "feats.ark"), matrices, scp=str(folder / "feats.scp"))
    (folder / "utt2num_frames").write_text("".join(f"{key} {len(x)}\n" for key, x in matrices.items()))
    (folder / "text").write_text("".join(f"{key} ab {'!' if key == 'u3' else 'b'}\n" for key in matrices))
    (folder / "utt2spk").write_text("".join(f"{key} s{i % 2}\n" for i, key in enumerate(matrices)))
    (folder / "phones.ctm").write_text("".join(f"{key} 1 0.000 0.400 AA\n{key} 1 0.400 0.100 B\n" for key in matrices))
    return folder


def make_experiment(exp: Path, encoder: str, data_dir: Path, drawn: Sequence[str] = ("u0", "u3")) -> None:
    """An untrained experiment after stage 7, with Fig. 2 of the utterances drawn."""
    exp.mkdir(parents=True)
    train_tokenizer(["ab b"], "char", 0, exp / "lang")
    sizes = {"layers": 3, "dim": 32, "heads": 2, "ffn_dim": 32, "experts": 2}
    (exp / "config.yaml").write_text(yaml.safe_dump({"model": {"encoder": encoder, **sizes}}))
    (exp / "metrics.jsonl").write_text(json.dumps(METRICS if encoder != "dense" else {**METRICS, "routing": {}}) + "\n")
    torch.manual_seed(0)
    config, tokenizer = ModelConfig(encoder=encoder, **sizes), Tokenizer(exp / "lang")
    utterances = read_feature_dir(data_dir)
    labels = transcripts(utterances, tokenizer)
    assert labels.keys() == {"u0", "u1", "u2"}  # the tokenizer has no unit for u3's word
    model = CtcModel(config, len(tokenizer.tokens)).eval()
    routing = analyse_routing(model, ordered_batches(utterances, 1.0), labels)
    if routing is not None:
        (exp / "routing_test").mkdir()
        subject = Subject(exp.name, config, routing.assignments)
        shown = wanted_utterances(utterances, drawn, 0, 0, 4)
        write_set(exp / "routing_test", subject, routing, tokenizer, data_dir, shown)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder: Path, suffix: str) -> set[str]:
    return {path.stem for path in folder.glob(f"*{suffix}")}


def test_from_stage_7_to_the_figures_of_several_experiments(data_dir: Path, tmp_path: Path) -> None:
    exps = {encoder: tmp_path / "exp" / encoder for encoder in ("dense", "switch", "omnirouter")}
    for encoder, exp in exps.items():
        make_experiment(exp, encoder, data_dir)
    one = exps["switch"] / "routing_test"
    figures = {"fig2_u0", "fig2_u3", "fig4_contingency", "fig5_cramers_v", "hearing", "hearing_profile"}
    assert names(one, ".png") == figures and names(one, ".json") == {*figures, "routing"}
    assert [word["text"] for word in json.loads((one / "fig2_u0.json").read_text())["words"]] == ["ab", "b"]
    assert json.loads((one / "fig2_u3.json").read_text())["words"] == []
    hearing = json.loads((one / "hearing.json").read_text())
    assert {kind: len(measured["layers"]) for kind, measured in hearing.items()} == dict.fromkeys(KINDS, 3)
    assert {kind: hearing[kind]["values"] for kind in ("phone", "speaker")} == {"phone": 2, "speaker": 2}

    output = tmp_path / "figures"
    output.mkdir()
    (output / "mine.txt").write_text("stays")
    notices = write_comparison(exps.values(), "test", output)
    assert len(notices) == 1 and notices[0].startswith("Fig. 3 of switch, omnirouter: not measured on test; ")
    several = {"fig2_u0", "fig2_u3", "fig4_contingency", "fig5_cramers_v", "fig6_training_loss"}
    several |= {"hearing", "load", "routing_in_training"}
    assert names(output, ".png") == names(output, ".json") == several
    of_one, of_several = (json.loads((folder / "fig2_u0.json").read_text()) for folder in (one, output))
    assert of_several["experiments"].keys() == {"switch", "omnirouter"}
    assert [phone["text"] for phone in of_one["phones"]] == ["AA", "B"]
    assert {of: of_several[of] for of in ("words", "phones")} == {of: of_one[of] for of in ("words", "phones")}
    both = json.loads((output / "hearing.json").read_text())
    assert both.keys() == {"switch", "omnirouter"} and both["switch"] == hearing
    before = files(output)
    write_comparison(exps.values(), "test", output)
    assert files(output) == before and before["mine.txt"] == b"stays"

    for exp in (exps["switch"], exps["omnirouter"]):
        folder = exp / "random_routing_test"
        folder.mkdir()
        options = {"draw": "layer", "may_keep": True, "scale": "drawn", "headline": "raw"}
        points = [{"share": p, "seed": 0, "wer": 10.0, "change_percent": 100 * p} for p in (0.0, 1.0)]
        write_random_routing(folder, exp.name, "test", {"options": options, "points": points})
        (series,) = json.loads((folder / "fig3_random_routing.json").read_text())["experiments"].values()
        assert [point["mean"] for point in series] == [0, 100] and (folder / "fig3_random_routing.png").exists()
    assert write_comparison(exps.values(), "test", output) == []
    assert (output / "fig3_random_routing.png").exists()


def test_fig_2_is_of_the_utterances_drawn_for_all_and_named_where_there_are_none(
    data_dir: Path, tmp_path: Path
) -> None:
    exps = [tmp_path / "exp" / encoder for encoder in ("switch", "omnirouter")]
    for exp, drawn in zip(exps, (["u0", "u1"], ["u1"]), strict=True):
        make_experiment(exp, exp.name, data_dir, drawn)
    (notice,) = write_comparison(exps, "test", tmp_path / "shared")
    assert notice.startswith("Fig. 3")
    assert {name for name in names(tmp_path / "shared", ".png") if name.startswith("fig2")} == {"fig2_u1"}
    np.savez(exps[1] / "routing_test/mel.npz", mel_u2=np.zeros((4, 80)))
    fig2, _ = write_comparison(exps, "test", tmp_path / "none")
    assert fig2.startswith("Fig. 2 of switch, omnirouter: stage 7 has drawn no utterance of test for all; ")
    assert not [name for name in names(tmp_path / "none", ".png") if name.startswith("fig2")]


def test_without_a_set_there_are_the_figures_of_training_and_of_all_sets(data_dir: Path, tmp_path: Path) -> None:
    exps = {encoder: tmp_path / "exp" / encoder for encoder in ("dense", "switch")}
    for encoder, exp in exps.items():
        make_experiment(exp, encoder, data_dir)
    shutil.copytree(exps["switch"] / "routing_test", exps["switch"] / "routing_dev")
    assert write_comparison([exps["switch"]], None, tmp_path / "one") == []
    assert names(tmp_path / "one", ".png") == {"fig6_training_loss", "load", "routing_in_training"}
    assert json.loads((tmp_path / "one/load.json").read_text())["switch"].keys() == {"dev", "test"}
    assert write_comparison([exps["dense"]], None, tmp_path / "dense") == []
    assert names(tmp_path / "dense", ".png") == {"fig6_training_loss"}
    (exps["dense"] / "metrics.jsonl").write_text('{"step": 1, "valid": {}}\n')
    (notice,) = write_comparison([exps["dense"]], None, tmp_path / "short")
    assert notice.startswith("dense in Fig. 6: no training step") and not names(tmp_path / "short", ".png")


def test_what_is_missing_is_named_with_its_stage(data_dir: Path, tmp_path: Path) -> None:
    exp = tmp_path / "exp" / "switch"
    with pytest.raises(UserError, match=r"config.yaml does not exist; stage 4 makes it"):
        write_comparison([exp], "test", tmp_path / "figures")
    exp.mkdir(parents=True)
    (exp / "config.yaml").write_text(yaml.safe_dump({"model": {"encoder": "switch"}}))
    with pytest.raises(UserError, match=r"metrics.jsonl does not exist; stage 4 makes it"):
        write_comparison([exp], "test", tmp_path / "figures")
    (exp / "metrics.jsonl").write_text(json.dumps(METRICS) + "\n")
    with pytest.raises(UserError, match=r"experts.npz does not exist; stage 7 makes it"):
        write_comparison([exp], "test", tmp_path / "figures")
    assert not (tmp_path / "figures").exists()
    with pytest.raises(UserError, match="two experiments are called switch"):
        write_comparison([exp, tmp_path / "switch"], "test", tmp_path / "figures")
    utterances = read_feature_dir(data_dir)
    with pytest.raises(UserError, match="no utterance 'u9'"):
        wanted_utterances(utterances, ["u9"], 3, 0, 4)
    with pytest.raises(UserError, match="no utterance 'u0' of at least 61 frames"):
        wanted_utterances(utterances, ["u0"], 3, 0, 61)
    assert [utterance.utt_id for utterance in wanted_utterances(utterances, [], 3, 0, 80)] == ["u2", "u3"]


def test_fig_3_of_a_model_with_several_experts_a_token_cannot_be_measured(tmp_path: Path) -> None:
    subjects = [Subject(f"k{k}", ModelConfig(encoder="switch", experts=2, top_k=k), None) for k in (1, 2)]
    one, two = comparison._write_random_routing(tmp_path, [tmp_path / "a", tmp_path / "b"], subjects, "test", {})
    assert one.startswith(f"Fig. 3 of {subjects[0].title}: not measured on test; --random-routing")
    assert two == f"Fig. 3 of {subjects[1].title}: it is of the top-1 expert only (model.top_k)"
