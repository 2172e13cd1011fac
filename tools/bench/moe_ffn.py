"""A mixture-of-experts layer against a dense one of equal active size, and against others' ways of computing it."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.ffn_peers import GroupedMm, HuggingFace, MaskedLoop, OneHot, Ours, Undispatched
from bench.report import Report, Target, none_faster, worst
from bench.settings import Settings, installed
from bench.timing import LEAST_ROUNDS, Spread, interleaved, ratio, spread
from omnirouter.models.experts import Experts, FeedForward
from omnirouter.models.router import Router

SKEWED_SHARE = 0.9
"""Share of the tokens that one expert gets under a skewed load."""
BOUNDS = {1024: 1.15, 16384: 1.05}
"""By number of tokens, the target of the ratio to a dense layer on a CPU, where the load is balanced."""
SKEWED_BOUND, CUDA_BOUND = 1.15, 1.15
UNDISPATCHED = "undispatched"
NO_PEERS = ("dense", "ours", UNDISPATCHED)
CUDA_TOKENS = 39375
"""The paper's share of a GPU: 1575 s, a token each 40 ms."""
AGAIN = "ours again"
MOST_PADDED = 3.0
"""One-hot dispatch is left out where its capacities make it compute more than so many times the tokens."""


@dataclass(frozen=True)
class Case:
    """One row: sizes, how many tokens, and how they are spread over the experts."""

    dim: int
    ffn_dim: int
    experts: int
    tokens: int
    skewed: bool
    backward: bool

    @property
    def load(self) -> str:
        """How the tokens are spread."""
        return f"{SKEWED_SHARE:.0%} on one" if self.skewed else "balanced"

    @property
    def passes(self) -> str:
        """What is computed."""
        return "f+b" if self.backward else "f"

    def __str__(self) -> str:
        return f"D {self.dim}, {self.tokens} tokens, N {self.experts}, {self.load}, {self.passes}"


@dataclass(frozen=True)
class Result:
    """What one case has given."""

    case: Case
    dense_ms: float
    to_dense: dict[str, Spread]
    """By contender, ratio of its time to the dense layer's."""
    to_ours: dict[str, Spread]
    """By peer, ratio of its time to ours."""
    noise: Spread
    """The same ratio of ours once more."""


def run(settings: Settings) -> list[Report]:
    """Time every case."""
    results = [_time(case, settings) for case in _cases(settings)]
    names = list(dict.fromkeys(name for result in results for name in result.to_dense))
    header = ["D / F", "tokens", "load", "N", "pass", "dense ms", *(f"{name} / dense" for name in names), "ours / ours"]
    rows = [_row(result, names) for result in results]
    return [Report("Mixture-of-experts layer", header, rows, targets(results, settings.device), _notes(settings))]


def _notes(settings: Settings) -> list[str]:
    notes = [
        "Ratio to a dense feed-forward network of equal active size: median over interleaved rounds [10 %, 90 %]. f: "
        "forward without gradients; f+b: forward and backward. Undispatched: N dense networks on as many tokens as the "
        "experts get, which is what a mixture costs where its dispatch costs nothing. The others include their router, "
        "top-1 and the scaling by its probability, and compute the same function (test/tools). Ours is timed twice a "
        "round, in an order drawn anew for each: ours / ours is the noise. Hugging Face and plain grouped_mm "
        f"have no biases. One-hot works in groups of at most {OneHot.GROUP} tokens with the least capacity that "
        f"drops none; it is left out (–) where it would compute over {MOST_PADDED:g} times the tokens. The slowest "
        f"rows have {LEAST_ROUNDS} rounds, and a peer counts as faster there only if it is so in every one."
    ]
    if settings.device.type == "cuda":
        notes.append("bf16 autocast over fp32 weights.")
    if not installed("transformers"):
        notes.append("Hugging Face: transformers is not installed (extra `bench`).")
    return notes


def _cases(settings: Settings) -> list[Case]:
    on_gpu = settings.device.type == "cuda"
    experts, tokens = [2, 4, 8], [1024, 16384, *([CUDA_TOKENS] if on_gpu else [])]
    sizes = [(192, 768, experts, tokens), (512, 4096, experts, tokens)]
    # The paper has two experts at these widths; over more tokens a CPU would take an hour.
    sizes += [(dim, 4096, [2], tokens if on_gpu else tokens[:1]) for dim in (768, 1024)]
    if settings.quick:
        sizes = [(192, 768, [4], tokens[:1])]
    return [
        Case(dim, ffn_dim, number, count, skewed, backward)
        for dim, ffn_dim, numbers, counts in sizes
        for count in counts
        for number in numbers
        for skewed in (False, True)
        for backward in (False, True)
    ]


def make_layers(case: Case, device: torch.device) -> tuple[dict[str, nn.Module], Tensor]:
    """The contenders, dense first, and tokens (T, D) whose routing has the case's load."""
    torch.manual_seed(0)
    router, experts = Router(case.dim, case.experts, top_k=1), Experts(case.dim, case.ffn_dim, case.experts, 0.0)
    dense = FeedForward(case.dim, case.ffn_dim, 0.0)
    nn.init.zeros_(experts.inner_bias)
    nn.init.zeros_(experts.outer_bias)
    x = _tokens(case, router)
    layers = {"dense": dense, "ours": Ours(router, experts), UNDISPATCHED: Undispatched(router, experts, x)}
    layers["masked loop"] = MaskedLoop(router, experts)
    if installed("transformers"):
        layers["Hugging Face"] = HuggingFace(router, experts)
    one_hot = OneHot(router, experts, x)
    if case.experts * one_hot.capacity <= MOST_PADDED * one_hot.group:
        layers["one-hot"] = one_hot
    if device.type == "cuda":
        layers["grouped_mm"] = GroupedMm(router, experts)
    return {name: layer.to(device) for name, layer in layers.items()}, x.to(device)


def _tokens(case: Case, router: Router) -> Tensor:
    """Noise, and of the router's column of the expert that a token is to choose so much that it will."""
    turns = torch.arange(case.tokens)
    chosen = turns % case.experts
    if case.skewed:
        chosen = torch.where(turns < SKEWED_SHARE * case.tokens, 0, 1 + turns % (case.experts - 1))
    chosen = chosen[torch.randperm(case.tokens)]
    columns = nn.functional.normalize(router.weight.detach(), dim=0).T
    x = 0.3 * torch.randn(case.tokens, case.dim) + 8 * columns[chosen]
    wrong = int((router(x).experts_TK.squeeze(1) != chosen).sum())
    assert not wrong, f"{wrong} tokens choose another expert than they should"
    return x


def _time(case: Case, settings: Settings) -> Result:
    layers, x = make_layers(case, settings.device)
    direction = torch.randn_like(x)
    layers[AGAIN] = layers["ours"]
    passes = {name: _pass(layer, x, direction, case.backward) for name, layer in layers.items()}
    times_s = interleaved(passes, settings.repeats, settings.device)
    dense, ours, noise = times_s["dense"], times_s["ours"], ratio(times_s.pop(AGAIN), times_s["ours"])
    to_dense = {name: ratio(times, dense) for name, times in times_s.items() if name != "dense"}
    to_ours = {name: ratio(times, ours) for name, times in times_s.items() if name not in NO_PEERS}
    return Result(case, 1000 * spread(dense).median, to_dense, to_ours, noise)


def _pass(layer: nn.Module, x: Tensor, direction: Tensor, backward: bool) -> Callable[[], None]:
    """One pass over the tokens; a GPU computes it in bf16."""
    autocast = torch.autocast("cuda", torch.bfloat16) if x.is_cuda else nullcontext()
    x = x.clone().requires_grad_(backward)

    def forward() -> None:
        with torch.no_grad(), autocast:
            layer(x)

    def forward_backward() -> None:
        layer.zero_grad(set_to_none=True)
        x.grad = None
        with autocast:
            y = layer(x)
        y.backward(direction.to(y.dtype))

    return forward_backward if backward else forward


def _row(result: Result, names: list[str]) -> list[str]:
    case = result.case
    labels = [f"{case.dim} / {case.ffn_dim}", str(case.tokens), case.load, str(case.experts), case.passes]
    ratios = [str(result.to_dense.get(name, "–")) for name in names]
    return [*labels, f"{result.dense_ms:.1f}", *ratios, str(result.noise)]


def targets(results: list[Result], device: torch.device) -> list[Target]:
    """The targets of a device: ratios to dense, and whether any peer is faster by more than the noise."""

    def ours(tokens: int | None, skewed: bool) -> list[tuple[str, float]]:
        rows = [r for r in results if r.case.skewed == skewed and tokens in (None, r.case.tokens)]
        return [(str(r.case), r.to_dense["ours"].median) for r in rows]

    if device.type == "cuda":
        bounded = worst(
            f"ours / dense, {CUDA_TOKENS} tokens", ours(CUDA_TOKENS, False) + ours(CUDA_TOKENS, True), CUDA_BOUND
        )
    else:
        bounded = [t for n, bound in BOUNDS.items() for t in worst(f"ours / dense, {n} tokens", ours(n, False), bound)]
        bounded += worst("ours / dense, 90 % of the tokens on one expert", ours(None, True), SKEWED_BOUND)
    return bounded + none_faster([(f"{name}; {r.case}", figure) for r in results for name, figure in r.to_ours.items()])
