"""Scored experiments, made by hand."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from omnirouter.scoring.report import score_decoding

Decode = Callable[..., Path]
REFERENCE = {f"{speaker}-{i}": "a b c d" for speaker in ("ann", "bob", "cid") for i in range(4)}
WRONG = {0: "a b c d", 1: "a b c", 2: "a b", 3: "a"}
"""Hypotheses by their number of errors."""
MODELS = {"dense": "dense", "switch": "switch", "omni": "omnirouter"}


@pytest.fixture
def decode(tmp_path: Path) -> Decode:
    """A function that makes a scored experiment with some errors in each utterance, in the order of their ids."""

    def make(name: str, errors: str, set_name: str = "test", reference: dict[str, str] = REFERENCE) -> Path:
        data, decode = tmp_path / "data" / name / set_name, tmp_path / "exp" / name / f"decode_{set_name}"
        for folder in (data, decode):
            folder.mkdir(parents=True, exist_ok=True)
        (data / "text").write_text("".join(f"{key} {text}\n" for key, text in reference.items()))
        (data / "utt2spk").write_text("".join(f"{key} {key.split('-')[0]}\n" for key in reference))
        hypotheses = zip(reference, errors, strict=True)
        (decode / "text").write_text("".join(f"{key} {WRONG[int(n)]}\n" for key, n in hypotheses))
        score_decoding(data, decode / "text", decode / "score")
        kind, _, ending = name.partition("_")
        config = {"model": {"encoder": MODELS[kind], "experts": 2}, "inputs": {"dev": "data/dev"}}
        config["training"] = {"seed": int(ending) if ending.isdigit() else 1}
        (decode.parent / "config.yaml").write_text(yaml.safe_dump(config))
        info = {"parameters": 2_000_000, "active_parameters": 1_000_000, "version": "0.1", "commit": "abc"}
        (decode.parent / "model_info.json").write_text(json.dumps(info))
        return decode.parent

    return make
