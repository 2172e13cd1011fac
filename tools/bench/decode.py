"""Greedy decoding of a set against the bare encoder on the same batches."""

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from bench.report import Report, worst
from bench.settings import Settings
from bench.synthetic import LENGTHS, librispeech_frames, transcripts, write_feature_dir
from bench.timing import Spread, interleaved, ratio, spread
from omnirouter.data.dataset import FeatureUtterance, ordered_batches, read_feature_dir
from omnirouter.data.tokenizer import Tokenizer, train_tokenizer
from omnirouter.decoding.run import decode_to_file
from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import BLANK, CtcModel

MOST_OF_ENCODER = 1.15
BLANK_SHARE = 0.85
"""Of the tokens of a trained model at 25 a second and some three units a second."""
BATCH_S = 200.0
SMALL = ModelConfig(encoder="omnirouter", layers=8, dim=192, heads=4, ffn_dim=768, experts=4)
PAPER = ModelConfig(encoder="omnirouter", layers=16, dim=512, heads=8, ffn_dim=4096, experts=8, positions="cape")


def run(settings: Settings) -> list[Report]:
    """Time decoding with a small model, and with one of the paper's."""
    sizes = [("8 layers, D 192, 500 units", SMALL, 500, 100 if not settings.quick else 10)]
    if not settings.quick:
        sizes.append(("16 layers, D 512, 2000 units", PAPER, 2000, 1000 if settings.device.type == "cuda" else 32))
    rows, figures = [], []
    for name, config, vocab_size, utterances in sizes:
        with TemporaryDirectory() as folder:
            audio_s, encoder_s, share = _measure(config, vocab_size, utterances, Path(folder), settings)
        rows.append([name, str(utterances), f"{audio_s / encoder_s:.0f}", str(share)])
        figures.append((name, share.median))
    header = ["Omni-router model", "utterances", "encoder, audio s per s", "decoding / encoder"]
    note = (
        f"{LENGTHS} Decoding: from features in an ark to a file of hypotheses. Encoder: its forward pass over the same "
        f"batches of {BATCH_S:g} s, which lie in memory, without output layer. Random weights, the blank's bias such "
        f"that {BLANK_SHARE:.0%} of the tokens are blank. Median over interleaved rounds [10 %, 90 %]."
    )
    return [Report("Greedy decoding", header, rows, worst("decoding / encoder", figures, MOST_OF_ENCODER), [note])]


def _measure(
    config: ModelConfig, vocab_size: int, utterances: int, folder: Path, settings: Settings
) -> tuple[float, float, Spread]:
    """Seconds of audio, seconds of the encoder, and the ratio of decoding to it."""
    train_tokenizer(transcripts(3000), "bpe", vocab_size, folder / "lang")
    write_feature_dir(folder / "set", librispeech_frames(utterances))
    tokenizer, listed = Tokenizer(folder / "lang"), read_feature_dir(folder / "set")
    torch.manual_seed(0)
    model = CtcModel(config, len(tokenizer.tokens)).to(settings.device).eval()
    batches = [(batch.features.to(settings.device), batch.lengths) for batch in ordered_batches(listed, BATCH_S)]
    _favour_blank(model, *batches[0])

    @torch.inference_mode()
    def encode() -> None:
        for features, lengths in batches:
            model.encoder(features, lengths)

    def decode() -> None:
        decode_to_file(model, tokenizer, listed, BATCH_S, folder / "text")

    times_s = interleaved({"encoder": encode, "decoding": decode}, settings.repeats, settings.device)
    return _audio_s(listed), spread(times_s["encoder"]).median, ratio(times_s["decoding"], times_s["encoder"])


@torch.inference_mode()
def _favour_blank(model: CtcModel, features: torch.Tensor, lengths: list[int]) -> None:
    """Set the blank's bias so that it is the best of BLANK_SHARE of these tokens."""
    scores = model(features, lengths).log_probs_TV
    others = scores.clone()
    others[:, BLANK] = -torch.inf
    lead = others.amax(dim=1) - scores[:, BLANK]
    model.output.bias[BLANK] += lead.quantile(BLANK_SHARE)


def _audio_s(utterances: list[FeatureUtterance]) -> float:
    return sum(utterance.frames for utterance in utterances) / 100
