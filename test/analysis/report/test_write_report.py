"""The folder of a report."""

import random
import shutil

import numpy as np
import pytest
import yaml

from omnirouter.analysis.assignments import make_assignments, write_assignments
from omnirouter.analysis.report.audio import Sound
from omnirouter.analysis.report.scripts import characters, read_script
from omnirouter.analysis.report.sets import ReportedSet, write_set
from omnirouter.analysis.report.write import ReportOptions, write_report
from omnirouter.data.errors import UserError

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
    write_report([recipe / "exp" / name for name in names], recipe / "report", ReportOptions(**options))
    return recipe / "report"


def test_a_report_holds_lists_details_and_audio(recipe):
    folder = report(recipe, "dense", "switch")
    index, listed, piece = (read_script(folder / "data", name) for name in ("index", "set0", "set0-0"))
    assert index["experiments"] == ["dense", "switch"]
    assert [row["cells"]["raw WER %"] for row in index["results"]["rows"]] == ["16.67", "25.00"]
    assert [row["rate"][0] for row in index["results"]["rows"]] == [16.67, 25.0]
    assert index["routing"] == [[None, [{"layer": 1, "load": [1.0, 0, 0, 0], "cramers_v": None}, {"layer": 2, "load": [0, 0.5, 0.5, 0], "cramers_v": 0.25}]]]
    assert index["sets"][0]["name"] == "tiny" and index["sets"][0]["audio"] == 0
    assert listed["ids"] == list(TEXTS) and listed["texts"] == list(TEXTS.values())
    assert listed["speakers"] == ["spk0", "spk0", "spk1", "spk1"] and listed["lengths_s"] == [1.0, 1.1, 1.2, 1.3]
    assert listed["errors"] == [[2, 0, 0, 0], [0, 0, 0, 3]]
    dense, switch = piece[0]["experiments"]
    assert dense == {"hyp": "tone number one more", "ops": "CCSI"} or dense["ops"] == "CCIS"
    assert switch["ref_times"] == [[0, 8], [10, 8], [20, 8]] and switch["ref_words"] == "tone number 0"
    assert switch["experts"][0] == "0" * 25
    assert len(piece[0]["outline"]) == 80
    assert sorted(path.name for path in (folder / "audio/0").iterdir()) == [f"{i}.ogg" for i in range(4)]
    assert (folder / "index.html").is_file() and (folder / "page/main.js").is_file()


def test_experts_of_a_switch_are_named_as_those_below(recipe):
    """Layer 2's expert 1 has more of the tokens of layer 1's expert 0 (24 of 25 to 2's), so it is called 0."""
    switch = read_script(report(recipe, "switch", with_audio=False) / "data", "set0-0")
    names = switch[0]["experiments"][0]["experts"][1]
    config = recipe / "exp/switch/config.yaml"
    config.write_text(config.read_text().replace("encoder: switch", "encoder: omnirouter"))
    shared = read_script(report(recipe, "switch", with_audio=False) / "data", "set0-0")
    assert shared[0]["experiments"][0]["experts"][1] == "1" * 12 + "2" * 13
    assert names[0] != names[-1] and "0" in names


def test_without_audio_nothing_is_read_but_tables(recipe):
    shutil.rmtree(recipe / "wavs")
    folder = report(recipe, "dense", with_audio=False)
    assert not (folder / "audio").exists()
    assert read_script(folder / "data", "set0")["lengths_s"] == [1.0, 1.1, 1.2, 1.3]
    assert read_script(folder / "data", "index")["sets"][0]["audio"] is None


def test_without_data_directory(recipe):
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


def test_some_audio_may_be_missing_but_not_all(recipe, capsys):
    (recipe / "wavs/1.wav").unlink()
    folder = report(recipe, "dense")
    assert read_script(folder / "data", "set0")["audio"] == [True, False, True, True]
    assert "1 of 4 utterances without audio" in capsys.readouterr().err
    shutil.rmtree(recipe / "wavs")
    with pytest.raises(UserError, match="0.wav.*--no-audio"):
        report(recipe, "dense")
    assert (folder / "audio/0/0.ogg").is_file(), "the report before is still there"


def test_sets_are_chosen_and_beam_search_shares_the_audio(recipe):
    shutil.copytree(recipe / "exp/switch/decode_tiny", recipe / "exp/switch/decode_tiny_lm")
    index = read_script(report(recipe, "dense", "switch") / "data", "index")
    assert [(one["name"], one["audio"]) for one in index["sets"]] == [("tiny", 0), ("tiny_lm", 0)]
    assert [bool(layers) for layers in index["sets"][1]["layers"]] == [False, True]
    assert read_script(recipe / "report/data", "set1")["errors"] == [None, [0, 0, 0, 3]]
    index = read_script(report(recipe, "dense", "switch", sets=["tiny"], with_audio=False) / "data", "index")
    assert [one["name"] for one in index["sets"]] == ["tiny"]
    with pytest.raises(UserError, match="'dev': there is no decode_dev/score; those scored are: tiny"):
        report(recipe, "dense", sets=["dev"])


def test_experiments_without_scores_have_curves(recipe):
    shutil.rmtree(recipe / "exp/dense/decode_tiny")
    index = read_script(report(recipe, "dense") / "data", "index")
    assert not index["sets"] and not index["results"]["rows"] and len(index["curves"]) == 2


def test_experiments_of_one_name_are_told_apart_and_seeds_joined(recipe, make_experiment):
    make_experiment(recipe / "exp2/dense", "dense", recipe / "data/tiny", TEXTS)
    make_experiment(recipe / "exp/dense_seed2", "dense", recipe / "data/tiny", TEXTS, seed=2)
    paths = [recipe / "exp/dense", recipe / "exp2/dense", recipe / "exp/dense_seed2"]
    write_report(paths, recipe / "report", ReportOptions(with_audio=False))
    index = read_script(recipe / "report/data", "index")
    assert index["experiments"] == [str(paths[0]), str(paths[1]), "dense_seed2"]
    assert [row["experiment"] for row in index["results"]["seeds"]] == ["dense, dense_seed2"]


def test_figures_are_copied(recipe):
    (recipe / "exp/switch/routing_tiny/fig5 V.png").write_bytes(b"png")
    folder = report(recipe, "dense", "switch", with_audio=False)
    assert read_script(folder / "data", "index")["figures"] == [[[], ["fig5 V"]]]
    assert (folder / "figures/0-1/fig5 V.png").read_bytes() == b"png"


def test_only_reports_are_replaced(recipe):
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


def test_3000_utterances_take_less_than_10_mb(tmp_path):
    """LibriSpeech test-clean's lengths, one dense and two encoders of 16 layers; words and experts at random."""
    rng, words = np.random.default_rng(0), random.Random(0)
    seconds, layers, count = 7.5, 16, 3000
    vocabulary = ["".join(words.choices("ABCDEFGHIJKLM", k=words.randint(2, 8))) for _ in range(5000)]
    utt_ids = [f"1089-134686-{i:04d}" for i in range(count)]
    refs = [words.choices(vocabulary, k=20) for _ in utt_ids]
    paths = []
    for name in ("dense", "switch", "omnirouter"):
        path = tmp_path / name
        (path / "decode_big/score").mkdir(parents=True)
        (path / "config.yaml").write_text(yaml.safe_dump({"model": {"encoder": name, "layers": layers, "experts": 4}}))
        hyps = [[w if words.random() < 0.95 else words.choice(vocabulary) for w in ref] for ref in refs]
        lines = [f"{u} ref {' '.join(r)}\n{u} hyp {' '.join(h)}\n{u} op {' '.join('CS'[a != b] for a, b in zip(r, h))}\n" for u, r, h in zip(utt_ids, refs, hyps)]
        (path / "decode_big/score/per_utt").write_text("".join(lines))
        if name != "dense":
            experts = {u: rng.integers(4, size=(layers, int(seconds / 0.04))) for u in utt_ids}
            (path / "routing_big").mkdir()
            write_assignments(path / "routing_big/experts.npz", make_assignments(experts, range(1, 17), [4] * 16, 0.04))
        paths.append(path)
    (tmp_path / "out").mkdir()
    sounds = [Sound(characters(rng.integers(64, size=400)), seconds) for _ in utt_ids]
    write_set(ReportedSet("big", 0, paths, None), tmp_path / "out", MadeAudio(sounds))
    size = sum(path.stat().st_size for path in (tmp_path / "out").iterdir())
    assert len(read_script(tmp_path / "out", "set0-59")) == 50
    assert 1_000_000 < size < MOST_BYTES
