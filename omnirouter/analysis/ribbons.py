"""Fig. 2: the mel spectrogram of an utterance over the experts of its tokens, layers by time, and its words."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from omnirouter.analysis.matching import matched_experts
from omnirouter.analysis.plot import GREY, colours, new_figure
from omnirouter.analysis.subject import Subject
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.decoding.ctm import Word

LETTER_IN, MARGINS_IN = 0.085, 1.7  # widths of a printed letter, and of what stands beside the panels
MOST_IN = 38.0  # of a figure's width: half a minute of speech with legible words
SHOWN_RANGE = 11.0  # nats of log-mel energy below the loudest that the spectrogram shows: 48 dB


@dataclass(frozen=True)
class Heard:
    """An utterance as it sounds."""

    utt_id: str
    mel: np.ndarray
    """Log-mel energies (frames, n_mels)."""
    words: list[Word]
    """The words of its transcript, where the model's alignment has them."""
    phones: list[Word] = field(default_factory=list)
    """Its phones, where they are known."""


def choose_utterances(utt_ids: Sequence[str], count: int, seed: int) -> list[str]:
    """Draw utterances: always the same ones of the same set."""
    rng = np.random.default_rng(seed)
    return sorted(rng.choice(sorted(utt_ids), min(count, len(utt_ids)), replace=False).tolist())


def ribbon_figure(heard: Heard, subjects: Sequence[Subject], set_name: str) -> tuple[Figure, dict[str, Any]]:
    """Draw one utterance, with a ribbon for each experiment, and return the figure and its data."""
    length_s = len(heard.mel) / FRAMES_PER_S
    rows = {"phones": heard.phones, "words": heard.words} if heard.phones else {"words": heard.words}
    heights = [1.6, *(0.5 + 0.17 * len(subject.assignments.layers) for subject in subjects), *[0.35] * len(rows)]
    title = f"{heard.utt_id} of {set_name}: experts by layer and time"
    figure = new_figure(min(MOST_IN, max(7.5, 3.0 + 2.4 * length_s)), 1.1 + sum(heights), title)
    panels = list(figure.subplots(len(heights), 1, sharex=True, height_ratios=heights))
    _draw_mel(panels[0], heard.mel)
    drawn = {}
    for axes, subject in zip(panels[1:], subjects, strict=False):
        drawn[subject.name] = _draw_ribbon(axes, subject, heard.utt_id)
    for axes, (name, row) in zip(panels[1 + len(subjects) :], rows.items(), strict=True):
        _draw_words(axes, row, length_s, name)
    panels[-1].set_xlabel("time, s (a word stands where the model's alignment has its units)")
    texts = {name: [asdict(word) for word in row] for name, row in rows.items()}
    return figure, {"utt_id": heard.utt_id, **texts, "experiments": drawn}


def _draw_mel(axes: Axes, mel: np.ndarray) -> None:
    extent = (0, len(mel) / FRAMES_PER_S, 0.5, mel.shape[1] + 0.5)
    top = float(mel.max())
    axes.imshow(mel.T, origin="lower", aspect="auto", extent=extent, cmap="magma", vmin=top - SHOWN_RANGE, vmax=top)
    axes.set_ylabel("mel band")


def _draw_ribbon(axes: Axes, subject: Subject, utt_id: str) -> dict[str, Any]:
    """Draw the experts of an utterance; colours match from layer to layer, where each has a router of its own."""
    assignments = subject.assignments
    matched_LT = matched_experts(assignments, subject.routers)
    experts_LT = matched_LT[:, assignments.spans[utt_id]]
    layers, used = assignments.layers.tolist(), int(matched_LT.max()) + 1
    palette = colours(max(used, int(assignments.n_experts.max())))
    extent = (0, experts_LT.shape[1] * assignments.token_s, 0.5, len(layers) + 0.5)
    axes.imshow(
        experts_LT, origin="lower", aspect="auto", extent=extent, cmap=ListedColormap(palette),
        vmin=-0.5, vmax=len(palette) - 0.5, interpolation="nearest",
    )  # fmt: skip
    axes.set_yticks(range(1, len(layers) + 1), [f"$l_{{{layer}}}$" for layer in layers], fontsize=8)
    routers = len(set(subject.routers))
    how = "one router for all layers" if routers == 1 else f"{routers} routers, colours matched to the layer below"
    axes.set_title(f"{subject.title}: {how}", fontsize=9, loc="left")
    axes.set_ylabel("layer")
    patches = [Patch(color=colour, label=f"{i}") for i, colour in enumerate(palette, 1)]
    axes.legend(
        handles=patches, title="expert" if routers == 1 else "colour", loc="center left", bbox_to_anchor=(1.0, 0.5),
        fontsize=7, title_fontsize=7, frameon=False, handlelength=1.0, ncols=1 + len(palette) // 8,
    )  # fmt: skip
    return {"layers": layers, "token_s": assignments.token_s, "matched_experts": (experts_LT + 1).tolist()}


def _draw_words(axes: Axes, words: Sequence[Word], length_s: float, name: str) -> None:
    """Print each word (or phone) over the time in which it is heard, at two heights in turn where it is narrow."""
    axes.set_xlim(0, length_s)
    axes.set_ylim(0, 1)
    axes.set_yticks([])
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.set_ylabel(name, rotation=0, ha="right", va="center", fontsize=8, labelpad=12)
    letter_s = LETTER_IN * length_s / (axes.figure.get_figwidth() - MARGINS_IN)
    for i, word in enumerate(words):
        axes.axvspan(word.start_s, word.start_s + word.duration_s, color="#dddddd" if i % 2 else "#c8c8c8", lw=0)
        middle_s = word.start_s + word.duration_s / 2
        is_narrow = word.duration_s < letter_s * len(word.text)
        height = (0.75 if i % 2 else 0.25) if is_narrow else 0.5
        half_s = letter_s * len(word.text) / 2
        side = "left" if middle_s < half_s else "right" if middle_s + half_s > length_s else "center"
        at_s = {"left": 0.0, "right": length_s, "center": middle_s}[side]
        axes.text(at_s, height, word.text, ha=side, va="center", fontsize=8)
    if not words:
        axes.text(length_s / 2, 0.5, "(not aligned)", ha="center", va="center", fontsize=8, color=GREY)
