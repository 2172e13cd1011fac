"""The index of a training set against a plain reading of its tables; built once, whole or not at all."""

import itertools
import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from omnirouter.data import index as index_module
from omnirouter.data import streams
from omnirouter.data.building import repeats
from omnirouter.data.datadir import Utterance, read_data_dir, read_table, write_data_dir, write_table
from omnirouter.data.dataset import load_row
from omnirouter.data.errors import UserError
from omnirouter.data.features import load_features
from omnirouter.data.files import atomic_dir
from omnirouter.data.index import Index, open_index
from omnirouter.data.parsing import Pipe
from omnirouter.data.tokenizer import Tokenizer, train_tokenizer

WORDS = "ONE TWO THREE FOUR FIVE SIX SEVEN ÉIGHT NINE TEN TOO BOOK".split()


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(streams, "BLOCK_LINES", 7)


def texts(count: int) -> list[str]:
    rng = np.random.default_rng(1)
    return [" ".join(rng.choice(WORDS, rng.integers(1, 9))) for _ in range(count)]


def make_set(kind: str, count: int = 45) -> Path:
    """A data directory in which features are stored, or the audio consists of files or segments, and a tokenizer."""
    rng, data_dir = np.random.default_rng(2), Path("data")
    utterances = []
    for i, text in enumerate(texts(count)):
        span = (round(float(rng.uniform(0, 50)), 5), None if i % 5 == 0 else 60.0 + i / 7) if kind == "segments" else ()
        name = Path(f"wavs/{'long' if kind == 'segments' else ''}{i // 4 if kind == 'segments' else i}.flac")
        speed = 1.0 if kind == "files" else (0.9, 1.0, 1.1)[i % 3]
        utterances.append(Utterance(f"utt{i:03d}", name, text, "s", *span, duration_s=1.0, speed=speed))
    write_data_dir(data_dir, utterances)
    write_table(data_dir / "utt2num_frames", {f"utt{i:03d}": str(rng.integers(0, 3000)) for i in range(count)})
    if kind == "stored":
        places = {f"utt{i:03d}": f"fbank/a:b.{i % 3}.ark:{rng.integers(0, 1 << 40)}" for i in range(count)}
        write_table(data_dir / "feats.scp", places)
    train_tokenizer(texts(count), "bpe", 60, Path("lang"))
    return data_dir


def check(index: Index, data_dir: Path, lang: Path) -> None:
    """Hold an index against what is read from the tables by themselves."""
    tokenizer, text = Tokenizer(lang), read_table(data_dir / "text")
    frames = read_table(data_dir / "utt2num_frames")
    if (data_dir / "feats.scp").exists():
        places = read_table(data_dir / "feats.scp")
    else:
        utterances = read_data_dir(data_dir, allow_pipes=True, labelled=False)
        places = {utt.utt_id: (utt.recording, utt.start_s, utt.end_s, utt.speed) for utt in utterances}
    assert [index.utt_id(row) for row in range(len(index))] == sorted(text)
    for row, key in enumerate(sorted(text)):
        labels = tokenizer.encode(text[key])
        assert index.labels(row) == labels and index.label_count(row) == len(labels)
        assert index.least_tokens[row] == len(labels) + sum(a == b for a, b in itertools.pairwise(labels))
        assert index.unknown[row] == labels.count(1) and index.frames[row] == int(frames[key])
        place = index.place(row)
        if isinstance(place, Utterance):
            assert place.utt_id == key
            place = (place.recording, place.start_s, place.end_s, place.speed)
        assert place == places[key]


@pytest.mark.parametrize("order", ["in step", "not in order"])
@pytest.mark.parametrize("kind", ["stored", "files", "segments"])
def test_an_index_says_what_the_tables_say(kind: str, order: str) -> None:
    data_dir = make_set(kind)
    if order == "not in order":
        for name in ("text", "wav.scp", "segments", "feats.scp"):
            path = data_dir / name
            if path.exists():
                path.write_text("".join(sorted(path.read_text().splitlines(keepends=True), key=hash)))
    index = open_index(data_dir, Path("lang"))
    assert len(index) == 45 and index.is_stored == (kind == "stored")
    check(index, data_dir, Path("lang"))
    check(pickle.loads(pickle.dumps(index)), data_dir, Path("lang"))


@pytest.mark.parametrize("characters", [3, 400])
def test_labels_of_any_vocabulary(characters: int) -> None:
    data_dir = make_set("stored")
    alphabet = [chr(0x4E00 + i) for i in range(characters)]
    train_tokenizer(alphabet, "char", 0, Path("many"))
    rng = np.random.default_rng(0)
    write_table(data_dir / "text", {f"utt{i:03d}": "".join(rng.choice(alphabet, 9)) for i in range(45)})
    index = open_index(data_dir, Path("many"))
    check(index, data_dir, Path("many"))
    assert index.label_total == 45 * 9 and not index.unknown.any()
    assert (index.folder / "labels").stat().st_size == 45 * 9 * (1 if characters == 3 else 2)


@pytest.mark.parametrize("kind", ["bpe", "char"])
def test_labels_without_a_unit_are_counted(kind: str) -> None:
    data_dir = make_set("stored")
    train_tokenizer(["ONE TWO NINE TEN"], kind, 12, Path("few"))
    index = open_index(data_dir, Path("few"))
    check(index, data_dir, Path("few"))
    assert 0 < index.unknown.sum() < index.label_total and len({*index.unknown.tolist()}) > 3


def test_repeats_by_hand() -> None:
    joined, lengths = np.array([5, 5, 5, 5, 2, 2, 2, 7]), np.array([0, 2, 1, 3, 0, 2])
    assert repeats(joined, lengths).tolist() == [0, 1, 0, 1, 0, 0]  # of [], [5, 5], [5], [5, 2, 2], [], [2, 7]
    assert repeats(np.array([3, 3, 3]), np.array([3])).tolist() == [2]
    assert repeats(np.zeros(0, int), np.array([0])).tolist() == [0]


def test_it_is_built_once_and_again_when_a_table_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    data_dir, built = make_set("stored"), []
    original = index_module.build
    monkeypatch.setattr(index_module, "build", lambda *args: built.append(args) or original(*args))
    for _ in range(2):
        folder = open_index(data_dir, Path("lang")).folder
    assert len(built) == 1 and folder.parent == data_dir
    (folder / "stats_0.json").write_text("of the features before")
    text = read_table(data_dir / "text")
    write_table(data_dir / "text", {**text, "utt001": "TEN TEN TEN"})
    check(open_index(data_dir, Path("lang")), data_dir, Path("lang"))
    assert len(built) == 2 and not (folder / "stats_0.json").exists()
    (data_dir / "feats.scp").unlink()  # now on the fly
    assert not open_index(data_dir, Path("lang")).is_stored and len(built) == 3
    os.utime(data_dir / "wav.scp", ns=(1, 1))
    open_index(data_dir, Path("lang"))
    assert len(built) == 4
    train_tokenizer(texts(45), "bpe", 50, Path("other"))
    assert open_index(data_dir, Path("other")).folder != folder
    check(open_index(data_dir, Path("lang")), data_dir, Path("lang"))
    assert len(built) == 5  # each tokenizer has its own


@pytest.mark.parametrize("name", ["segments", "utt2speed"])
def test_it_is_built_again_when_the_audio_of_an_utterance_changes(name: str) -> None:
    data_dir = make_set("segments")
    old, table = open_index(data_dir, Path("lang")).place(1), read_table(data_dir / name)
    value = {"segments": f"{table['utt001'].split()[0]} 0.25 0.75", "utt2speed": "1.25"}[name]
    write_table(data_dir / name, {**table, "utt001": value})
    index = open_index(data_dir, Path("lang"))
    check(index, data_dir, Path("lang"))
    assert index.place(1) != old


def test_a_table_that_changes_while_it_is_built_makes_it_old() -> None:
    data_dir, original = make_set("stored"), index_module.build

    def build(*args: Any) -> dict[str, str]:
        files = original(*args)
        write_table(data_dir / "text", {**read_table(data_dir / "text"), "utt001": "TEN TEN TEN"})
        return files

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(index_module, "build", build)
        open_index(data_dir, Path("lang"))
    check(open_index(data_dir, Path("lang")), data_dir, Path("lang"))


def test_tokenizers_of_equal_units_but_other_models_have_an_index_each() -> None:
    data_dir = make_set("stored")
    old = open_index(data_dir, Path("lang"))
    shutil.copytree("lang", "other")
    with open("other/bpe.model", "ab") as file:
        file.write(b"\x1a\x02\x18\x00")  # normalizer_spec { add_dummy_prefix: false }: no space before the first word
    index = open_index(data_dir, Path("other"))
    check(index, data_dir, Path("other"))
    assert index.labels(0) != old.labels(0)


def test_an_index_in_use_outlives_the_next_one() -> None:
    data_dir = make_set("segments")
    old = open_index(data_dir, Path("lang"))
    labels = [old.labels(row) for row in range(45)]
    write_table(data_dir / "text", {key: "TEN" for key in read_table(data_dir / "text")})
    assert open_index(data_dir, Path("lang")).labels(3) != labels[3]
    assert [old.labels(row) for row in range(45)] == labels


def test_commands_need_permission() -> None:
    write_data_dir("data", [Utterance("u", Pipe("touch pwned"), "TEN", "s", duration_s=1.0)])
    write_table("data/utt2num_frames", {"u": "98"})
    train_tokenizer(["TEN"], "char", 0, Path("lang"))
    assert open_index(Path("data"), Path("lang"), allow_pipes=True).place(0).recording == Pipe("touch pwned")
    with pytest.raises(UserError, match="utterance u: its entry in wav.scp would run a shell command; .*--allow-pipes"):
        open_index(Path("data"), Path("lang")).place(0)
    assert not Path("pwned").exists()


FAULTS = {
    "feats.scp": ("fbank/a.ark", "'fbank/a.ark' is no file:offset; run stage 2 again"),
    "utt2num_frames": ("-3", "'utt001' has '-3' frames; run stage 2 again"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_wrong_entry_is_named_and_nothing_is_left(name: str) -> None:
    data_dir = make_set("stored")
    value, message = FAULTS[name]
    write_table(data_dir / name, {**read_table(data_dir / name), "utt001": value})
    with pytest.raises(UserError, match=message):
        open_index(data_dir, Path("lang"))
    assert not list(data_dir.glob("*index_*"))


def test_missing_tables_name_the_stage() -> None:
    data_dir = make_set("files")
    for name, stage in (("text", 1), ("utt2num_frames", 2)):
        content = (data_dir / name).read_bytes()
        (data_dir / name).unlink()
        with pytest.raises(UserError, match=f"{name} does not exist; stage {stage} makes it"):
            open_index(data_dir, Path("lang"))
        (data_dir / name).write_bytes(content)


BUILD_SLOWLY = """
import sys, time
from pathlib import Path
from omnirouter.data import index
original = index.build
def build(folder, *args):
    print(folder, flush=True)
    files = original(folder, *args)
    time.sleep(float(sys.argv[1]))
    return files
index.build = build
print(len(index.open_index(Path("data"), Path("lang"))), flush=True)
"""


def test_a_killed_build_leaves_nothing_half_written() -> None:
    data_dir = make_set("segments")
    process = subprocess.Popen([sys.executable, "-c", BUILD_SLOWLY, "60"], stdout=subprocess.PIPE, text=True)
    folder = Path(process.stdout.readline().strip())
    while not (folder / "recordings").exists():
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not list(data_dir.glob("index_*")) and folder.exists()
    check(open_index(data_dir, Path("lang")), data_dir, Path("lang"))
    assert not folder.exists()


def test_of_two_processes_one_builds() -> None:
    make_set("stored")
    command = [sys.executable, "-c", BUILD_SLOWLY, "1"]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    printed = sorted((process.communicate()[0].splitlines() for process in both), key=len)
    assert printed[0] == ["45"] and len(printed[1]) == 2


def test_a_large_set_costs_no_python_objects(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "BLOCK_LINES", 1 << 12)
    count, data_dir = 100_000, Path("data")
    with atomic_dir(data_dir) as folder:
        (folder / "wav.scp").write_text("".join(f"rec{i} {i}.flac\n" for i in range(10)))
        formats = {
            "segments": lambda i: f"rec{i % 10} {i / 100} {i / 100 + 9}",
            "utt2num_frames": lambda i: f"{100 + i % 2000}",
            "text": lambda i: f"TEN BOOKS {i}",
        }
        for name, value in formats.items():
            (folder / name).write_text("".join(f"utt{i:07d} {value(i)}\n" for i in range(count)))
    train_tokenizer(["TEN BOOKS 0123456789"], "char", 0, Path("lang"))
    tracemalloc.start()
    try:
        index = open_index(data_dir, Path("lang"))
        held, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 2**20 and peak / count < 100  # a dictionary for each table would be some 1000 bytes an utterance
    assert len(index) == count and index.utt_id(98_765) == "utt0098765" and index.place(5).start_s == 0.05


def test_features_are_loaded_from_their_place(tiny_data_dir: Path) -> None:
    write_table(tiny_data_dir / "utt2num_frames", {f"spk{i // 2}-utt{i}": str(98 + 10 * i) for i in range(4)})
    train_tokenizer(["tone number 0123"], "char", 0, Path("lang"))
    index = open_index(tiny_data_dir, Path("lang"))
    for row, utterance in enumerate(read_data_dir(tiny_data_dir)):
        np.testing.assert_array_equal(load_row(index, row), load_features(utterance, utterance.utt_id))
    assert json.loads((index.folder / "files.json").read_text())["frames"] == "<i4"
