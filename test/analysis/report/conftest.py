"""Made experiments, with all that a report can show, and a browser to show it."""

import json
import re
import shutil
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from selenium import webdriver
from selenium.webdriver.chrome.service import Service

from omnirouter.analysis.assignments import make_assignments, write_assignments
from omnirouter.data.datadir import read_table
from omnirouter.data.tables import write_table
from omnirouter.decoding.ctm import Word, write_ctm
from omnirouter.scoring.report import score_decoding

LAYERS, EXPERTS = 2, 12
ARGUMENTS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-gpu",
    "--window-size=1400,1000",
    "--force-prefers-reduced-motion",
)


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    chromium, driver = shutil.which("chromium"), shutil.which("chromedriver")
    if not (chromium and driver):
        pytest.skip("no chromium and chromedriver here (Debian: apt install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chromium
    for argument in ARGUMENTS:
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    session = webdriver.Chrome(options=options, service=Service(driver))
    yield session
    session.quit()


@pytest.fixture(scope="session")
def make_experiment() -> Callable[..., Path]:
    return _make_experiment


@pytest.fixture(scope="session")
def read_script() -> Callable[[Path, str], Any]:
    """A function that unpacks `name.js` of a folder as the page does."""

    def read_script(folder: Path, name: str) -> Any:
        script = (folder / f"{name}.js").read_text(encoding="utf-16")
        found = re.fullmatch(r'REPORT\.receive\("(.+)", (\d+), "([\u3000-\uafff]*)"\);\n', script)
        assert found and found[1] == name
        bits = "".join(f"{ord(letter) - 0x3000:015b}" for letter in found[3])
        length = int(found[2])
        return json.loads(zlib.decompress(int(bits[: 8 * length], 2).to_bytes(length, "big")))

    return read_script


def _make_experiment(
    path: Path,
    encoder: str,
    data_dir: Path,
    hypotheses: Mapping[str, str],
    seed: int = 1,
    with_ctm: bool = False,
    steps: Sequence[int] = (10, 20, 30),
) -> Path:
    """An experiment with a training recorded at these steps and hypotheses on a set, scored.

    An encoder of experts is routed so that layer 1 has expert 0 all the time, layer 2 expert 1 for the first half of
    an utterance, then 9.
    """
    decode = path / f"decode_{data_dir.name}"
    decode.mkdir(parents=True, exist_ok=True)
    model = {"encoder": encoder, "layers": LAYERS, "experts": EXPERTS}
    (path / "config.yaml").write_text(yaml.safe_dump({"model": model, "training": {"seed": seed}}))
    (path / "metrics.jsonl").write_text("".join(f"{json.dumps(line)}\n" for line in _metrics(encoder, steps)))
    write_table(decode / "text", hypotheses)
    score_decoding(data_dir, decode / "text", decode / "score")
    if encoder != "dense":
        _route(path / f"routing_{data_dir.name}", read_table(data_dir / "utt2dur"))
    if with_ctm:
        for folder, texts in ((f"align_{data_dir.name}", read_table(data_dir / "text")), (decode.name, hypotheses)):
            (path / folder).mkdir(exist_ok=True)
            write_ctm(path / folder / "ctm", {utt_id: _timed(text) for utt_id, text in texts.items()})
    return path


def _timed(text: str) -> list[Word]:
    return [Word(i / 10, 0.08, word) for i, word in enumerate(text.split())]


def _metrics(encoder: str, steps: Sequence[int]) -> list[dict]:
    lines = []
    for step in steps:
        agreement = {"1": {"cramers_v": None}, "2": {"cramers_v": 0.2}, "3": {"cramers_v": 0.4}}
        routing = {} if encoder == "dense" else {"routing": agreement}
        lines.append(
            {"step": step, "ctc_loss": 100 / step, "balance_loss": 0.0 if encoder == "dense" else 6.0, **routing}
        )
    return [*lines, {"step": 20, "valid": {"wer": 12.5}}, {"step": 30, "valid": {"wer": 0.0}}]


def _route(folder: Path, durations_s: Mapping[str, str]) -> None:
    experts = {}
    for utt_id, duration_s in durations_s.items():
        tokens = int(float(duration_s) / 0.04)
        experts[utt_id] = np.stack([np.zeros(tokens, int), np.where(np.arange(tokens) < tokens // 2, 1, 9)])
    folder.mkdir(exist_ok=True)
    write_assignments(folder / "experts.npz", make_assignments(experts, [1, 2], [EXPERTS] * LAYERS, 0.04))
    layers = [{"layer": 1, "load": [1.0, *[0] * 11], "cramers_v": None}]
    layers.append({"layer": 2, "load": [0, 0.5, *[0] * 7, 0.5, 0, 0], "cramers_v": 0.25})
    (folder / "routing.json").write_text(json.dumps({"layers": layers}))
