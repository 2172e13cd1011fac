"""The whole model against a slow reference in float64: token by token and head by head, from the paper's equations.

The reference shares nothing with the package but the parameters' names.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from omnirouter.models.config import ModelConfig
from omnirouter.models.ctc import CtcModel

MELS = 5
SIZES = {"dim": 12, "heads": 3, "ffn_dim": 10, "experts": 3, "n_mels": MELS}
FRAMES = [41, 4, 0, 30, 7, 3]
"""Of the utterances of the batch; 3 frames and none are no token of 4."""
Weights = Mapping[str, Tensor]


@dataclass(frozen=True)
class Case:
    fields: dict[str, Any]
    """Of the configuration."""
    routers: list[int | None]
    """What these fields ask for: the index of each layer's router, None where the layer is dense."""
    top_k: int = 1
    form: str = "switch"
    stack: int = 4

    def config(self) -> ModelConfig:
        own = {"top_k": self.top_k, "balance": self.form, "stack_frames": self.stack}
        off = {"dropout": 0.0, "attention_dropout": 0.0}
        return ModelConfig(**{**SIZES, "layers": len(self.routers), **own, **off, **self.fields})


CASES = {
    "dense": Case({"encoder": "dense"}, [None, None, None]),
    "switch": Case({"encoder": "switch"}, [0, 1, 2]),
    "omnirouter": Case({"encoder": "omnirouter"}, [0, 0, 0]),
    "balance-as-printed": Case({"encoder": "omnirouter"}, [0, 0, 0], form="paper"),
    "two-experts-a-token": Case({"encoder": "switch"}, [0, 1, 2], top_k=2),
    "two-and-as-printed": Case({"encoder": "omnirouter"}, [0, 0, 0], top_k=2, form="paper"),
    "every-second-layer": Case({"encoder": "omnirouter", "moe_every": 2}, [None, 0, None, 0]),
    "groups-and-three-frames": Case({"moe_groups": [[2, 2], [2, 4]]}, [0, 0, 1, 1], stack=3),
}


def softmax(scores: Tensor) -> Tensor:
    return scores.exp() / scores.exp().sum()


def normalised(x_D: Tensor, weights: Weights, name: str) -> Tensor:
    """Layer norm of one token."""
    centred = x_D - x_D.sum() / len(x_D)
    deviation = (centred.square().sum() / len(x_D) + 1e-5).sqrt()
    return centred / deviation * weights[f"{name}.weight"] + weights[f"{name}.bias"]


def position(i: int, dim: int) -> Tensor:
    """Sines, then cosines, of token i (Vaswani et al.)."""
    angles = torch.tensor([i / 10000 ** (2 * j / dim) for j in range(dim // 2)], dtype=torch.float64)
    return torch.cat((angles.sin(), angles.cos()))


def embedded(features: Tensor, weights: Weights, stack: int) -> list[Tensor]:
    """Tokens of an utterance: frames (n, mels) normalised, stacked in their order, projected, their position added."""
    frames = [(frame - weights["feature_mean"]) / weights["feature_std"] for frame in features]
    tokens = []
    for i in range(len(frames) // stack):
        x = torch.cat(frames[i * stack : (i + 1) * stack])
        y = weights["encoder.input.weight"] @ x + weights["encoder.input.bias"]
        tokens.append(y + position(i, len(y)))
    return tokens


def attended(tokens: Sequence[Tensor], weights: Weights, name: str) -> list[Tensor]:
    """softmax(q·k / √d) v of each token, head by head, without biases."""
    of_all = [matrix.chunk(SIZES["heads"]) for matrix in weights[f"{name}.qkv.weight"].chunk(3)]
    results = []
    for token in tokens:
        heads = []
        for w_query, w_key, w_value in zip(*of_all, strict=True):
            query = w_query @ token
            shares = softmax(torch.stack([query @ (w_key @ other) / len(query) ** 0.5 for other in tokens]))
            heads.append(sum(share * (w_value @ other) for share, other in zip(shares, tokens, strict=True)))
        results.append(weights[f"{name}.out.weight"] @ torch.cat(heads))
    return results


def fed_forward(x_D: Tensor, parameters: Sequence[Tensor]) -> Tensor:
    w_inner, b_inner, w_outer, b_outer = parameters
    hidden = w_inner @ x_D + b_inner
    return w_outer @ (hidden * (hidden > 0)) + b_outer


def dense(x_D: Tensor, weights: Weights, name: str) -> Tensor:
    names = ("inner.weight", "inner.bias", "outer.weight", "outer.bias")
    return fed_forward(x_D, [weights[f"{name}.{part}"] for part in names])


def chosen(probs_N: Tensor, top_k: int) -> list[int]:
    return sorted(range(len(probs_N)), key=lambda j: -float(probs_N[j].detach()))[:top_k]


def mixture(x_D: Tensor, probs_N: Tensor, weights: Weights, name: str, top_k: int) -> Tensor:
    """Eq. 2."""
    names = ("inner_weight", "inner_bias", "outer_weight", "outer_bias")
    experts = chosen(probs_N, top_k)
    return sum(probs_N[j] * fed_forward(x_D, [weights[f"{name}.{part}"][j] for part in names]) for j in experts)


def utterance(features: Tensor, weights: Weights, case: Case) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Log-probabilities (V,) of each token, and for each MoE layer the router's probabilities (N,) of each."""
    tokens, probs = embedded(features, weights, case.stack), []
    for layer, router in enumerate(case.routers):
        name = f"encoder.blocks.{layer}"
        attention = attended(
            [normalised(x, weights, f"{name}.attention_norm") for x in tokens], weights, f"{name}.attention"
        )
        tokens = [x + y for x, y in zip(tokens, attention, strict=True)]
        inputs = [normalised(x, weights, f"{name}.ffn_norm") for x in tokens]
        if router is None:
            outputs = [dense(y, weights, f"{name}.ffn") for y in inputs]
        else:
            probs.append([softmax(y @ weights[f"encoder.routers.{router}.weight"]) for y in inputs])  # eq. 1, eq. 6
            pairs = zip(inputs, probs[-1], strict=True)
            outputs = [mixture(y, p, weights, f"{name}.ffn", case.top_k) for y, p in pairs]
        tokens = [x + y for x, y in zip(tokens, outputs, strict=True)]
    ends = [normalised(x, weights, "encoder.final_norm") for x in tokens]
    return [softmax(weights["output.weight"] @ x + weights["output.bias"]).log() for x in ends], probs


def balance(probs: Sequence[Tensor], case: Case) -> Tensor:
    """Eq. 5 of one layer, over all tokens; of K experts a token, all K·T assignments are counted."""
    total, experts = 0.0, len(probs[0])
    for j in range(experts):
        dispatched = [p[j] for p in probs if j in chosen(p, case.top_k)]
        f = len(dispatched) / (case.top_k * len(probs))  # eq. 3
        rho = sum(dispatched if case.form == "paper" else [p[j] for p in probs]) / len(probs)  # eq. 4, or Fedus et al.
        total = total + experts * f * rho
    return total


def reference(features: Sequence[Tensor], weights: Weights, case: Case) -> tuple[Tensor, Tensor]:
    """Log-probabilities (T, V) of a batch's tokens, and the sum of its layers' balance losses."""
    results = [utterance(matrix, weights, case) for matrix in features]
    of_layers = [sum(of_utterances, []) for of_utterances in zip(*(probs for _, probs in results), strict=True)]
    for probs in of_layers:
        assert len({chosen(p, 1)[0] for p in probs}) > 1  # else which expert, and how many, would not be seen
    return torch.stack(sum((tokens for tokens, _ in results), [])), sum(
        (balance(probs, case) for probs in of_layers), torch.zeros((), dtype=torch.float64)
    )


def random_model(case: Case) -> CtcModel:
    """A model whose norms, biases and statistics do something: as they are initialised they could be left out."""
    model = CtcModel(case.config(), 7)
    with torch.no_grad():
        for tensor in (*model.parameters(), model.feature_mean):
            tensor.add_(0.4 * torch.randn_like(tensor))
        model.feature_std.uniform_(0.5, 2.0)
    return model


def padded(features: Sequence[Tensor]) -> Tensor:
    """A batch (B, frames, mels) with large values where no utterance is."""
    return torch.nn.utils.rnn.pad_sequence(features, batch_first=True, padding_value=1e3)


@pytest.mark.parametrize("frames", [FRAMES[:1], FRAMES], ids=["alone", "ragged"])
@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_values_balance_loss_and_gradients_are_the_references(case: Case, frames: list[int]) -> None:
    torch.manual_seed(37)
    model, features = random_model(case), [torch.randn(length, MELS) for length in frames]
    weights = {name: tensor.double() for name, tensor in model.state_dict().items()}
    for name, _ in model.named_parameters():
        weights[name].requires_grad_()
    wanted, wanted_balance = reference([matrix.double() for matrix in features], weights, case)
    output = model(padded(features), frames)
    torch.testing.assert_close(output.log_probs_TV.double(), wanted, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(output.balance_loss.double(), wanted_balance, rtol=1e-5, atol=0)
    direction = torch.randn_like(wanted)
    ((output.log_probs_TV * direction.float()).sum() + 10 * output.balance_loss).backward()
    ((wanted * direction).sum() + 10 * wanted_balance).backward()
    for name, parameter in model.named_parameters():
        gradient = weights[name].grad
        assert (parameter.grad - gradient).norm() <= 1e-5 * gradient.norm() > 0, name  # some 80 roundings of fp32
