"""The folder of a report."""

import json
import random
import shutil
from pathlib import Path

import numpy as np
import pytest

from omnirouter.analysis.report import sets, write
from omnirouter.analysis.report.audio import Sound
from omnirouter.analysis.report.details import Decoded
from omnirouter.analysis.report.scripts import characters
from omnirouter.analysis.report.write import ReportOptions, write_report
from omnirouter.data.datadir import Utterance, write_data_dir
from omnirouter.data.errors import UserError
from omnirouter.decoding.ctm import Word, write_ctm
from omnirouter.scoring.alignments import Alignment

TEXTS = {f"spk{i // 2}-utt{i}": f"tone number {i}" for i in range(4)}
MOST_BYTES = 10_000_000


@pytest.fixture
def recipe(tmp_path, make_experiment, tiny_data_dir):
    """A recipe's folder: data/tiny, and exp with a dense and a Switch experiment."""
    (tmp_path / "data").mkdir()
    tiny_data_dir.rename(tmp_path / "data/tiny")
    data = tmp_path / "data/tiny"
    make_experiment(tmp_path / "exp/dense", "dense", data, TEXTS | {"spk0-utt0": "tone number one more"})
    make_experiment(tmp_path / "exp/switch", "switch", data, TEXTS | {"spk1-utt3": ""}, with_ctm=True)
    return tmp_path


def report(recipe, *names, **options):
    """A report's folder, whose size is said as it is."""
    size = write_report([recipe / "exp" / name for name in names], recipe / "report", ReportOptions(**options))
    folder = recipe / "report"
    files = [path for path in folder.rglob("*") if path.is_file()]
    of_page = [path for path in files if path.relative_to(folder).parts[0] not in ("audio", "figures")]
    assert size == sum(path.stat().st_size for path in of_page)
    return folder


def test_a_report_holds_lists_details_and_audio(recipe, read_script):
    folder = report(recipe, "dense", "switch")
    index, listed, piece = (read_script(folder / "data", name) for name in ("index", "set0", "set0-0"))
    assert index["experiments"] == ["dense", "switch"]
    assert [row["cells"]["raw WER %"] for row in index["results"]["rows"]] == ["16.67", "25.00"]
    assert [row["rate"][0] for row in index["results"]["rows"]] == [16.67, 25.0]
    assert index["routing"] == [
        [
            None,
            [
                {"layer": 1, "load": [1.0, *[0] * 11], "cramers_v": None},
                {"layer": 2, "load": [0, 0.5, *[0] * 7, 0.5, 0, 0], "cramers_v": 0.25},
            ],
        ]
    ]
    assert index["sets"][0]["name"] == "tiny" and index["sets"][0]["audio"] == 0
    assert listed["ids"] == list(TEXTS) and listed["texts"] == list(TEXTS.values())
    assert listed["speakers"] == ["spk0", "spk0", "spk1", "spk1"] and listed["lengths_s"] == [1.0, 1.1, 1.2, 1.3]
    assert listed["errors"] == [[2, 0, 0, 0], [0, 0, 0, 3]] and listed["differ"] == [True, False, False, True]
    (hyp, *_), _ = piece["hyp"]
    assert hyp == "tone number one more" and sorted(piece["ops"][0][0]) == ["C", "C", "I", "S"]
    (no_times, *_), (times, *_) = piece["ref_times"]
    assert no_times is None and times == piece["hyp_times"][1][0] == [0, 8, 10, 8, 10, 8]
    (no_experts, *_), (experts, *_) = piece["experts"]
    assert no_experts is None and experts[::2] == "0" * 25  # layer 1, then 2, of each token
    assert [len(outline) for outline in piece["outlines"]] == [80, 88, 96, 104]
    assert sorted(path.name for path in (folder / "audio/0").iterdir()) == [f"{i}.ogg" for i in range(4)]
    assert (folder / "index.html").is_file() and (folder / "page/main.js").is_file()


def test_experts_are_named_as_those_below_unless_layers_share_a_router(recipe, read_script):
    """Layer 1 always has expert 0, layer 2 most often expert 9, whose name is then 0 too."""

    def upper_layer():
        data = report(recipe, "switch", with_audio=False) / "data"
        layers = read_script(data, "index")["sets"][0]["layers"][0]
        return layers["matched"], read_script(data, "set0-0")["experts"][0][0][1::2]

    matched, names = upper_layer()
    assert matched and names[-13:] == "0" * 13 and len(set(names[:12])) == 1 and names[0] != "0"
    config = recipe / "exp/switch/config.yaml"
    config.write_text(config.read_text().replace("encoder: switch", "encoder: omnirouter"))
    assert upper_layer() == (False, "1" * 12 + "9" * 13)


def test_times_of_other_words_are_left_out(recipe, read_script):
    write_ctm(recipe / "exp/switch/decode_tiny/ctm", {"spk0-utt0": [Word(0, 0.1, "stale")]})
    shown = read_script(report(recipe, "switch", with_audio=False) / "data", "set0-0")
    assert shown["ref_times"][0][0] and shown["hyp_times"][0][0] is None


def test_without_audio_nothing_is_read_but_tables(recipe, read_script):
    shutil.rmtree(recipe / "wavs")
    folder = report(recipe, "dense", with_audio=False)
    assert not (folder / "audio").exists()
    assert read_script(folder / "data", "set0")["lengths_s"] == [1.0, 1.1, 1.2, 1.3]
    assert read_script(folder / "data", "index")["sets"][0]["audio"] is None


def test_without_data_directory(recipe, read_script):
    shutil.rmtree(recipe / "data")
    with pytest.raises(UserError, match="no data directory of tiny: .*--data.*--no-audio"):
        report(recipe, "dense")
    listed = read_script(report(recipe, "dense", with_audio=False) / "data", "set0")
    assert listed["speakers"] == [] and listed["lengths_s"] == []


def test_a_data_directory_elsewhere(recipe):
    shutil.move(recipe / "data/tiny", recipe / "elsewhere/tiny")
    folder = report(recipe, "dense", data_dirs=[recipe / "elsewhere/tiny"])
    assert (folder / "audio/0/3.ogg").is_file()
    with pytest.raises(UserError, match="--data .*other: other is none of the sets reported: tiny"):
        report(recipe, "dense", data_dirs=[recipe / "other"])


def test_links_have_their_own_names(recipe, read_script, make_experiment):
    make_experiment(recipe / "exp/dense_seed2", "dense", recipe / "data/tiny", TEXTS, seed=2)
    disk = recipe / "disk"
    disk.mkdir()
    (recipe / "exp/dense").rename(disk / "a_of_tuesday")
    (recipe / "data/tiny").rename(disk / "long_ago")
    (recipe / "exp/dense").symlink_to(disk / "a_of_tuesday")
    (disk / "tiny").symlink_to("long_ago")
    folder = report(recipe, "dense", "dense_seed2", data_dirs=[disk / "tiny"])
    index = read_script(folder / "data", "index")
    assert index["experiments"] == ["dense", "dense_seed2"] and (folder / "audio/0/3.ogg").is_file()
    assert [row["experiment"] for row in index["results"]["seeds"]] == ["dense, dense_seed2"]
    with pytest.raises(UserError, match="--data .*long_ago: long_ago is none of the sets reported: tiny"):
        report(recipe, "dense", data_dirs=[disk / "long_ago"])


def test_some_audio_may_be_missing_but_not_all(recipe, capsys, read_script):
    (recipe / "wavs/1.wav").unlink()
    folder = report(recipe, "dense")
    assert read_script(folder / "data", "set0")["audio"] == [True, False, True, True]
    assert "1 of 4 utterances without audio" in capsys.readouterr().err
    shutil.rmtree(recipe / "wavs")
    with pytest.raises(UserError, match="0.wav.*--no-audio"):
        report(recipe, "dense")
    assert (folder / "audio/0/0.ogg").is_file(), "the report before is still there"


def test_sets_are_chosen_and_beam_search_shares_the_audio(recipe, read_script):
    shutil.copytree(recipe / "exp/switch/decode_tiny", recipe / "exp/switch/decode_tiny_lm")
    index = read_script(report(recipe, "dense", "switch") / "data", "index")
    assert [(one["name"], one["audio"]) for one in index["sets"]] == [("tiny", 0), ("tiny_lm", 0)]
    assert [bool(layers) for layers in index["sets"][1]["layers"]] == [False, True]
    assert read_script(recipe / "report/data", "set1")["errors"] == [None, [0, 0, 0, 3]]
    index = read_script(report(recipe, "dense", "switch", sets=["tiny"], with_audio=False) / "data", "index")
    assert [one["name"] for one in index["sets"]] == ["tiny"]
    with pytest.raises(UserError, match="'dev': there is no decode_dev/score; those scored are: tiny"):
        report(recipe, "dense", sets=["dev"])


def test_experiments_without_scores_have_curves(recipe, read_script):
    shutil.rmtree(recipe / "exp/dense/decode_tiny")
    index = read_script(report(recipe, "dense") / "data", "index")
    assert not index["sets"] and not index["results"]["rows"] and len(index["curves"]) == 2


def test_experiments_of_one_name_are_told_apart_and_seeds_joined(recipe, make_experiment, read_script):
    make_experiment(recipe / "exp2/dense", "dense", recipe / "data/tiny", TEXTS)
    make_experiment(recipe / "exp/dense_seed2", "dense", recipe / "data/tiny", TEXTS, seed=2)
    paths = [recipe / "exp/dense", recipe / "exp2/dense", recipe / "exp/dense_seed2"]
    write_report(paths, recipe / "report", ReportOptions(with_audio=False))
    index = read_script(recipe / "report/data", "index")
    assert index["experiments"] == [str(paths[0]), str(paths[1]), "dense_seed2"]
    assert [row["experiment"] for row in index["results"]["seeds"]] == ["dense, dense_seed2"]


def test_figures_are_copied(recipe, read_script):
    made = ("random_routing_tiny/fig3 p", "routing_tiny/fig5 V", "figures/load", "figures/fig6_training_loss")
    for name in made:
        path = recipe / f"exp/switch/{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_text(path.stem)
    folder = report(recipe, "dense", "switch", with_audio=False)
    index = read_script(folder / "data", "index")
    assert index["figures"] == [[[], ["fig3 p", "fig5 V"]]] and index["general_figures"] == [[], ["load"]]
    copied = {path.relative_to(folder / "figures"): path.read_text() for path in folder.glob("figures/*/*.png")}
    assert copied == {Path("0-1/fig3 p.png"): "fig3 p", Path("0-1/fig5 V.png"): "fig5 V", Path("1/load.png"): "load"}


def test_only_reports_are_replaced(recipe, read_script):
    (recipe / "report").mkdir()
    (recipe / "report/thesis.tex").write_text("years of work")
    with pytest.raises(UserError, match="holds something else than a report"):
        report(recipe, "dense")
    (recipe / "report/thesis.tex").unlink()
    report(recipe, "dense", with_audio=False)
    report(recipe, "switch", with_audio=False)
    assert read_script(recipe / "report/data", "index")["experiments"] == ["switch"]
    with pytest.raises(UserError, match="not an experiment directory"):
        report(recipe, "none")


def test_other_references_are_refused(recipe):
    per_utt = recipe / "exp/switch/decode_tiny/score/per_utt"
    per_utt.write_text(per_utt.read_text().replace("tone", "zone"))
    with pytest.raises(UserError, match="different references: 4 utterances"):
        report(recipe, "dense", "switch", with_audio=False)


class MadeAudio:
    """In the place of an `AudioFolder`: as many sounds as wanted, none written."""

    def __init__(self, sounds):
        self.sounds = sounds

    def add(self, utterances):
        return 0, self.sounds


def made_decoding(rng, words, refs, routed):
    """Random hypotheses with word times and, if routed, experts of 16 layers, for references of 20 words and 7.5 s."""
    ops = {utt_id: "".join(words.choices("CS", (19, 1), k=20)) for utt_id in refs}
    hyps = {u: [w if o == "C" else w[::-1] + "X" for w, o in zip(ref, ops[u], strict=True)] for u, ref in refs.items()}
    return Decoded(
        score=Path("score"),
        alignments={utt_id: Alignment(ref, hyps[utt_id], ops[utt_id]) for utt_id, ref in refs.items()},
        ref_words={utt_id: made_times(words, ref) for utt_id, ref in refs.items()},
        hyp_words={utt_id: made_times(words, hyp) for utt_id, hyp in hyps.items()},
        experts={utt_id: made_experts(rng) for utt_id in refs} if routed else {},
        layers={"layers": list(range(1, 17)), "names": 8, "matched": False, "token_s": 0.04} if routed else None,
    )


def made_experts(rng):
    """Runs of 2 tokens in the mean, as the mini recipe's Omni-router has: (16 layers, 187 tokens)."""
    experts = rng.integers(8, size=(16, 187))
    starts = np.where(rng.random(experts.shape) < 4 / 7, np.arange(187), 0)  # an eighth of them draw the same again
    return np.take_along_axis(experts, np.maximum.accumulate(starts, axis=1), axis=1)


def made_times(words, texts):
    starts = (0.36 * i + 0.04 * words.randint(0, 3) for i in range(len(texts)))
    return [Word(start, 0.04 * words.randint(1, 5), text) for start, text in zip(starts, texts, strict=True)]


def make_training(rng, path):
    """Curves as long as the page shows them, and routing of 16 layers."""
    lines = []
    for step in range(1, 1001):
        losses, agreement = rng.random(3).tolist(), {str(layer): {"cramers_v": rng.random()} for layer in range(16)}
        lines.append({"step": step, "ctc_loss": losses[0], "balance_loss": losses[1], "routing": agreement})
        lines.append({"step": step, "valid": {"wer": losses[2]}})
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    layers = [{"layer": i + 1, "load": rng.random(8).tolist(), "cramers_v": rng.random()} for i in range(16)]
    (path / "routing_big").mkdir()
    (path / "routing_big/routing.json").write_text(json.dumps({"layers": layers}))


def test_3000_utterances_take_less_than_10_mb(recipe, monkeypatch, make_experiment, read_script):
    """As long as those of LibriSpeech's test-clean, by a dense and two routed encoders of 16 layers, 8 experts each;
    words, amplitudes, times and layers at random, as nothing real is. The page and its index count."""
    rng, words = np.random.default_rng(0), random.Random(0)
    vocabulary = ["".join(words.choices("ABCDEFGHIJKLM", k=words.randint(2, 8))) for _ in range(5000)]
    refs = {f"1089-134686-{i:04d}": words.choices(vocabulary, k=20) for i in range(3000)}
    made = {name: made_decoding(rng, words, refs, name != "dense") for name in ("dense", "switch", "omnirouter")}
    make_experiment(recipe / "exp/omnirouter", "omnirouter", recipe / "data/tiny", TEXTS)
    for name in made:
        shutil.copytree(recipe / f"exp/{name}/decode_tiny", recipe / f"exp/{name}/decode_big")
        make_training(rng, recipe / "exp" / name)
    wav = recipe / "wavs/0.wav"
    utterances = [Utterance(u, wav, " ".join(ref), "1089", duration_s=7.5) for u, ref in refs.items()]
    write_data_dir(recipe / "data/big", utterances)
    sounds = [Sound(characters(rng.integers(32, size=300)), 7.5) for _ in refs]
    monkeypatch.setattr(sets, "read_decoded", lambda path, _: made[path.name])
    monkeypatch.setattr(write, "AudioFolder", lambda folder: MadeAudio(sounds))
    folder = report(recipe, *made, sets=["big"])
    assert len(read_script(folder / "data", "set0-59")["outlines"]) == 50
    total = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
    assert 5_000_000 < total < MOST_BYTES, total
