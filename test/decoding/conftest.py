"""A model that has learned nothing, as an experiment, and a data directory for it."""

from pathlib import Path

import kaldiio
import pytest
import torch
import yaml

from omnirouter.data.datadir import read_data_dir, write_table
from omnirouter.data.fbank import utterance_fbank
from omnirouter.data.tokenizer import train_tokenizer
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel
from omnirouter.training import checkpoint

MODEL = {"layers": 2, "dim": 32, "heads": 2, "ffn_dim": 64, "experts": 2}


@pytest.fixture
def data_dir(tiny_data_dir: Path, tmp_path: Path) -> Path:
    """Four utterances, `tone number 0` to `tone number 3`, with stored features."""
    matrices = {utterance.utt_id: utterance_fbank(utterance) for utterance in read_data_dir(tiny_data_dir)}
    kaldiio.save_ark(str(tmp_path / "feats.ark"), matrices, scp=str(tiny_data_dir / "feats.scp"))
    write_table(tiny_data_dir / "utt2num_frames", {utt_id: str(len(matrix)) for utt_id, matrix in matrices.items()})
    return tiny_data_dir


@pytest.fixture
def exp(tmp_path: Path) -> Path:
    """Its units are characters; what it writes is arbitrary, but not empty."""
    size = train_tokenizer(["tone number 0123"], "char", 0, tmp_path / "exp/lang")
    torch.manual_seed(0)
    model = CtcModel(ModelConfig(**MODEL), size)
    checkpoint.save(model.state_dict(), tmp_path / "exp/model.pt")
    (tmp_path / "exp/config.yaml").write_text(yaml.safe_dump({"model": MODEL}))
    return tmp_path / "exp"
