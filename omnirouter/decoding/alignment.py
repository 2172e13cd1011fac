"""Forced alignment: where the words of a transcript are heard, along the most probable path that reads it."""

from collections.abc import Iterable, Mapping, Sequence

import torch
from torch import Tensor

from omnirouter.data.dataset import Batch
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.tokenizer import SPACE, UNKNOWN, Tokenizer
from omnirouter.decoding.ctm import Word
from omnirouter.decoding.posteriors import utterance_log_probs
from omnirouter.models.ctc import BLANK, CtcModel


def align_labels(log_probs_TV: Tensor, labels: Sequence[int]) -> list[int]:
    """Return the label, or the blank, at each of the T frames of the most probable path that reads `labels`.

    log_probs_TV: fp32, on the CPU. `ValueError` says why there is no such path.
    """
    from torchaudio.functional import forced_align  # slow to import, and greedy decoding needs none of it

    frames = len(log_probs_TV)
    needed = len(labels) + sum(a == b for a, b in zip(labels, labels[1:], strict=False))
    if frames < needed:
        raise ValueError(f"{frames} tokens of audio are too few for {len(labels)} labels, which need {needed}")
    if not torch.isfinite(log_probs_TV).all():
        raise ValueError("its log-probabilities are not finite")
    if not labels:
        return [BLANK] * frames
    path, _ = forced_align(log_probs_TV.unsqueeze(0), torch.tensor([labels]), blank=BLANK)
    return path[0].tolist()


def transcript_labels(tokenizer: Tokenizer, text: str) -> list[int]:
    """Return the labels of a transcript; `ValueError` naming the word that the tokenizer has no units for."""
    unknown = tokenizer.tokens.index(UNKNOWN)
    labels = tokenizer.encode(text)
    if unknown in labels:
        word = next(word for word in text.split() if unknown in tokenizer.encode(word))
        raise ValueError(f"the tokenizer has no units for {word!r}")
    return labels


def path_words(path: Sequence[int], tokenizer: Tokenizer, token_s: float) -> list[Word]:
    """Return the words along a path of labels, a frame lasting `token_s` seconds.

    A word lasts from the first frame of its first unit to the last frame of its last one; the space of a word that is
    a unit of its own is no part of it.
    """
    from torchaudio.functional import merge_tokens

    spans: list[tuple[int, int]] = []
    texts: list[str] = []
    begins = True
    for span in merge_tokens(torch.tensor(path), torch.zeros(len(path)), blank=BLANK):
        unit = tokenizer.tokens[span.token]
        begins = begins or unit.startswith(SPACE)
        heard = unit.removeprefix(SPACE)
        if heard and begins:
            spans.append((span.start, span.end))
            texts.append(heard)
            begins = False
        elif heard:
            spans[-1] = (spans[-1][0], span.end)
            texts[-1] += heard
    return [
        Word(start * token_s, (end - start) * token_s, text) for (start, end), text in zip(spans, texts, strict=True)
    ]


def align_transcripts(
    model: CtcModel, tokenizer: Tokenizer, batches: Iterable[Batch], texts: Mapping[str, str]
) -> tuple[dict[str, list[Word]], dict[str, str]]:
    """Align the transcripts `texts` of the utterances in batches; the model must be in eval mode.

    Returns the words of each utterance, and of those that cannot be aligned the reason; both by utterance id.
    """
    token_s = model.encoder.config.stack_frames / FRAMES_PER_S
    words: dict[str, list[Word]] = {}
    failed: dict[str, str] = {}
    for utt_id, log_probs_TV in utterance_log_probs(model, batches):
        try:
            path = align_labels(log_probs_TV, transcript_labels(tokenizer, texts[utt_id]))
            words[utt_id] = path_words(path, tokenizer, token_s)
        except ValueError as error:
            failed[utt_id] = str(error)
    return words, failed
