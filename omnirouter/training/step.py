"""The gradient of a training step: the same, whatever the number of processes that share out its batches."""

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from omnirouter.data.dataset import Batch
from omnirouter.models.ctc import CtcModel, CtcOutput, ctc_losses
from omnirouter.models.router import z_loss
from omnirouter.training.config import ExperimentConfig, OptimConfig
from omnirouter.training.devices import CPU
from omnirouter.training.distributed import gathered, ranks
from omnirouter.training.parallel import clear_gradient, prepare, without_exchange
from omnirouter.training.telemetry import Telemetry


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices only, not norms, biases and routers, unless the configuration says all."""
    decayed, free = [], []
    for name, parameter in model.named_parameters():
        matrix = name.endswith("weight") and parameter.ndim >= 2 and ".routers." not in f".{name}"
        (decayed if matrix or config.weight_decay_on == "all" else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)


def left_out_layers(config: ExperimentConfig, step: int) -> frozenset[int]:
    """Draw the blocks that a training step does without (layer drop): for all its batches, in all processes.

    One block always stays, the one with the highest draw: FSDP2 exchanges gradients by the blocks' backward passes.
    """
    # A branch of its own of the seed: the sampler and SpecAugment draw from the main one.
    seeds = np.random.SeedSequence((config.training.seed, step), spawn_key=(1,))
    draws = np.random.default_rng(seeds).random(config.model.layers)
    draws[draws.argmax()] = 1.0
    return frozenset(np.flatnonzero(draws < config.model.layer_drop).tolist())


@dataclass
class StepLosses:
    """What this process's batches of a step have given."""

    telemetry: Telemetry = field(default_factory=Telemetry)
    of_utterances: list[tuple[list[str], Tensor]] = field(default_factory=list)
    """CTC losses of each batch's utterances."""

    def not_finite(self) -> list[str]:
        """Name the utterances, of all processes, whose loss is not finite, or all if only the gradient is not."""
        odd = [
            [utt_ids[i] for i in (~losses.isfinite()).nonzero().flatten().tolist()]
            for utt_ids, losses in self.of_utterances
        ]
        every = [utt_ids for utt_ids, _ in self.of_utterances]
        named = gathered((sum(odd, []), sum(every, [])))
        return sum((odd for odd, _ in named), []) or sum((every for _, every in named), [])


class StepGradient:
    """Computes gradients of the step's loss: CTC averaged over the utterances of all its batches, of all processes,
    and the weighted balance and z-losses averaged over these batches."""

    def __init__(self, model: CtcModel, config: ExperimentConfig, device: torch.device = CPU) -> None:
        """device: where to compute; the model is brought there."""
        self._model, self._config, self._device = model, config, device
        self._module = prepare(model, config.training, device)

    def compute(
        self, batches: Sequence[Batch], utterances: int, left_out: Collection[int] = (), exchange: bool = True
    ) -> StepLosses:
        """Set the model's gradient to that of a step, of which this process has some batches.

        utterances: of all batches of the step, in all processes. left_out: indices of blocks to do without, not all.
        exchange: whether replicas add up their gradients in the end.
        """
        result, sums = StepLosses(), []
        self._model.train()
        clear_gradient(self._model)
        for i, batch in enumerate(batches):
            with without_exchange(self._module, exchange and i == len(batches) - 1):
                losses, output = self._forward(batch, left_out)
                terms = self._terms(losses, output)
                self._total(terms, utterances).backward()
            result.telemetry.add({}, output.routing)
            result.of_utterances.append((batch.utt_ids, losses.detach()))
            sums.append(torch.stack([term.detach() for term in terms.values()]))
        for of_batch in torch.stack(sums).tolist():  # only here does the host wait for a GPU
            result.telemetry.add(dict(zip(terms, of_batch, strict=True)), {})
        return result

    def clip(self) -> tuple[float, bool]:
        """Clip the gradient as configured; returns its norm before, and whether anything was beyond the bound."""
        optim = self._config.optim
        parameters = [parameter for parameter in self._model.parameters() if parameter.grad is not None]
        gradients = [parameter.grad for parameter in parameters]
        norm = bounded = nn.utils.get_total_norm(gradients)
        if optim.clip_by == "norm":
            nn.utils.clip_grads_with_norm_(parameters, optim.clip_norm, norm)
        else:
            bounded = nn.utils.get_total_norm(gradients, math.inf)  # the largest value
            nn.utils.clip_grad_value_(parameters, optim.clip_norm)
        both = [of_all.full_tensor() if isinstance(of_all, DTensor) else of_all for of_all in (norm, bounded)]
        before, largest = torch.stack(both).tolist()  # the host waits for a GPU once
        return before, largest > optim.clip_norm

    def _forward(self, batch: Batch, left_out: Collection[int]) -> tuple[Tensor, CtcOutput]:
        training = self._config.training
        # Dropout depends on seed and position alone, so a checkpoint need not keep a random state.
        torch.manual_seed(training.seed * 1_000_003 + batch.position.number)
        with torch.autocast(self._device.type, torch.bfloat16, enabled=training.precision == "bf16"):
            output = self._module(
                batch.features.to(self._device, non_blocking=True), batch.lengths, True, left_out,
                training.activation_checkpointing,
            )  # fmt: skip
        targets = batch.targets.to(self._device, non_blocking=True)
        return ctc_losses(output, targets, batch.target_lengths), output

    def _terms(self, losses: Tensor, output: CtcOutput) -> dict[str, Tensor]:
        """The parts of a batch's loss: CTC summed over its utterances, balance, and z-loss if it counts."""
        terms = {"ctc": losses.sum(), "balance": output.balance_loss}
        if self._config.training.z_loss_weight:
            terms["z"] = losses.new_zeros(()) + z_loss(output.routing.values())  # on this device, without layers too
        return terms

    def _total(self, terms: dict[str, Tensor], utterances: int) -> Tensor:
        """This batch's share of the loss."""
        training = self._config.training
        loss = terms["ctc"] / utterances + training.balance_weight / training.batches_per_step * terms["balance"]
        if "z" in terms:
            loss = loss + training.z_loss_weight / training.batches_per_step * terms["z"]
        return loss * ranks()  # the exchange takes the mean over the processes
