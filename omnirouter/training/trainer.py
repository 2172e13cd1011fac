"""The training loop: every step a function of the seed, the step and the weights, so that a resumed run repeats it."""

import dataclasses
import math
import signal
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from tqdm import tqdm

from omnirouter.data.dataset import Batch, FeatureUtterance, ordered_batches
from omnirouter.data.errors import UserError
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.sampler import Position
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.decoding.greedy import greedy_decode
from omnirouter.models.ctc import CtcModel, CtcOutput, ctc_loss
from omnirouter.models.router import z_loss
from omnirouter.scoring.wer import word_errors
from omnirouter.training import checkpoint
from omnirouter.training.config import ExperimentConfig, OptimConfig
from omnirouter.training.log import LOG
from omnirouter.training.schedule import learning_rate
from omnirouter.training.telemetry import MetricsFile, Telemetry, flatten, routing_warnings, tensorboard_writer


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW that decays matrices only: not norms, biases and routers."""
    decayed, free = [], []
    for name, parameter in model.named_parameters():
        matrix = name.endswith("weight") and parameter.ndim >= 2 and ".routers." not in f".{name}"
        (decayed if matrix else free).append(parameter)
    groups = [{"params": decayed, "weight_decay": config.weight_decay}, {"params": free, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=config.lr, betas=(config.beta1, config.beta2), fused=True)


class Trainer:
    """Trains one model in one experiment directory."""

    def __init__(
        self,
        exp: Path,
        config: ExperimentConfig,
        model: CtcModel,
        tokenizer: Tokenizer,
        dev: Sequence[FeatureUtterance],
    ) -> None:
        self._exp, self._folder, self._config = exp, exp / "checkpoints", config
        self._model, self._tokenizer, self._dev = model, tokenizer, dev
        self._device = next(model.parameters()).device
        self._optimizer = make_optimizer(model, config.optim)
        self._telemetry = Telemetry()
        self._best: list[list[int]] = []  # [dev errors, step] of the checkpoints to average, best first
        self._without_gain = 0
        self._interrupted = False
        self._routing_before: dict[str, dict[str, Any]] = {}
        self.step, self.position = 0, Position()
        length = self._resume()
        self._metrics = MetricsFile(exp / "metrics.jsonl", length)
        self._board = tensorboard_writer(exp / "tensorboard", self.step + 1)

    def run(self, batches: Iterator[Batch]) -> list[Path]:
        """Train to the end on batches that begin at `self.position`; returns the checkpoints to average.

        SIGINT and SIGTERM end it after the step at hand, with a checkpoint and KeyboardInterrupt.
        """
        training = self._config.training
        previous = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        saved_at = started = time.monotonic()
        with tqdm(total=training.max_steps, initial=self.step, unit="step", disable=None, smoothing=0.02) as bar:
            while not self._finished():
                self._train_step(next(batches), time.monotonic() - started)
                bar.update()
                if self.step % training.log_every == 0:
                    bar.set_postfix_str(self._record())
                due = self.step % training.valid_every == 0 or self.step == training.max_steps
                if due:
                    self._validate()
                if due or self._interrupted or time.monotonic() - saved_at > training.checkpoint_every_s:
                    self._save()
                    saved_at = time.monotonic()
                if self._interrupted:
                    LOG.info("interrupted after step %d; the same command goes on from there", self.step)
                    raise KeyboardInterrupt
                started = time.monotonic()
        for number, handler in previous.items():
            signal.signal(number, handler)
        return [self._best_path(step) for _, step in self._best]

    def rehearse(self, batch: Batch) -> None:
        """Do what a step does short of changing anything; UserError saying what to lower if memory does not suffice."""
        cuda = [self._device] if self._device.type == "cuda" else []
        try:
            moments = [torch.empty_like(p) for p in self._model.parameters() for _ in range(2)]  # AdamW's, from step 0
            with torch.random.fork_rng(devices=cuda):
                self._backward(batch)
            del moments
        except (MemoryError, RuntimeError) as error:
            if not _is_out_of_memory(error):
                raise
            padded_s = len(batch.lengths) * max(batch.lengths) / FRAMES_PER_S
            raise UserError(
                f"out of memory on {self._device} at the largest batch, {len(batch.lengths)} utterances padded to "
                f"{padded_s:.0f} s in all; lower batch.max_batch_s, now {self._config.batch.max_batch_s:g}"
            ) from error
        finally:
            self._optimizer.zero_grad(set_to_none=True)

    def _finished(self) -> bool:
        training = self._config.training
        return self.step >= training.max_steps or self._without_gain >= training.patience

    def _train_step(self, batch: Batch, wait_s: float) -> None:
        started = time.monotonic()
        optim = self._config.optim
        rate = learning_rate(self.step, optim)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        ctc, output = self._backward(batch)
        norm = float(nn.utils.clip_grad_norm_(self._model.parameters(), optim.clip_norm))
        loss, balance = float(ctc.detach()), float(output.balance_loss.detach())
        if not math.isfinite(norm):
            raise UserError(f"step {self.step}: gradient not finite, CTC loss {loss}; utterances {batch.utt_ids}")
        self._optimizer.step()
        self.step += 1
        self.position, self._epoch, self._rate = batch.after, batch.position.epoch, rate
        figures = {
            "steps": 1, "utterances": len(batch.utt_ids), "ctc": loss, "balance": balance, "norm": norm,
            "clipped": norm > optim.clip_norm, "frames": sum(batch.lengths),
            "padded_frames": len(batch.lengths) * max(batch.lengths),
            "wait_s": wait_s, "work_s": time.monotonic() - started,
        }  # fmt: skip
        if self._config.training.z_loss_weight:
            figures["z"] = float(z_loss(output.routing.values()).detach())
        self._telemetry.add(figures, output.routing)

    def _backward(self, batch: Batch) -> tuple[Tensor, CtcOutput]:
        """Set the gradient of a batch at this step; returns the CTC loss, summed, and the model's output."""
        training = self._config.training
        # Dropout and layer drop depend on seed and position alone, so a checkpoint need not keep a random state.
        torch.manual_seed(training.seed * 1_000_003 + batch.position.number)
        self._model.train()
        self._optimizer.zero_grad(set_to_none=True)
        output = self._model(batch.features.to(self._device), batch.lengths, with_routing=True)
        ctc = ctc_loss(output, batch.targets.to(self._device), batch.target_lengths)
        loss = ctc / len(batch.utt_ids) + training.balance_weight * output.balance_loss
        if training.z_loss_weight:
            loss = loss + training.z_loss_weight * z_loss(output.routing.values())
        loss.backward()
        return ctc, output

    def _record(self) -> str:
        """Write the record of the interval that ends here, and start a new one; returns a summary."""
        total = self._telemetry.sum
        steps, wall_s = total("steps"), total("wait_s") + total("work_s")
        record = {
            "step": self.step, "epoch": self._epoch, "ctc_loss": total("ctc") / total("utterances"),
            "balance_loss": total("balance") / steps,
            **({"z_loss": total("z") / steps} if self._config.training.z_loss_weight else {}),
            "lr": self._rate, "grad_norm": total("norm") / steps,
            "clipped_share": total("clipped") / steps, "utterances": total("utterances"),
            "padding_share": 1 - total("frames") / total("padded_frames"),
            "routing": self._telemetry.routing_record(),
            "time": {
                "wall_s": wall_s,
                "data_wait_share": total("wait_s") / wall_s,
                "audio_s_per_s": total("frames") / FRAMES_PER_S / wall_s,
            },
        }  # fmt: skip
        self._write(record)
        self._telemetry = Telemetry()
        for warning in routing_warnings(self._routing_before, record["routing"]):
            LOG.warning("step %d: %s", self.step, warning)
        self._routing_before = record["routing"]
        summary = (
            f"ctc {record['ctc_loss']:.2f} balance {record['balance_loss']:.3f} lr {self._rate:.2e} "
            f"norm {record['grad_norm']:.1f} {record['time']['audio_s_per_s']:.0f} audio-s/s"
        )
        LOG.info("step %d epoch %d %s", self.step, self._epoch, summary)
        return summary

    def _validate(self) -> None:
        """Decode the dev set greedily; keep the weights when they are among the best."""
        self._model.eval()
        hypotheses: dict[str, str] = {}
        for part in greedy_decode(
            self._model, self._tokenizer, ordered_batches(self._dev, self._config.training.valid_batch_s)
        ):
            hypotheses |= part
        counts = word_errors([u.text for u in self._dev], [hypotheses[u.utt_id] for u in self._dev])
        self._write(
            {"step": self.step, "valid": {"wer": counts.percent, "errors": counts.errors, "words": counts.ref_units}}
        )
        least = min((errors for errors, _ in self._best), default=math.inf)
        self._without_gain = 0 if counts.errors < least else self._without_gain + 1
        # Of equal checkpoints the later ones are kept: they have seen more.
        ranked = sorted([*self._best, [counts.errors, self.step]], key=lambda entry: (entry[0], -entry[1]))
        self._best = ranked[: self._config.training.average_best]
        if [counts.errors, self.step] in self._best:
            checkpoint.save(self._model.state_dict(), self._best_path(self.step))
        LOG.info("step %d dev %s, best so far %d errors", self.step, counts, self._best[0][0])

    def _write(self, record: dict[str, Any]) -> None:
        self._metrics.write(record)
        if self._board is not None:
            for name, value in flatten(record).items():
                if name not in ("step", "epoch"):
                    self._board.add_scalar(name, value, self.step)

    def _best_path(self, step: int) -> Path:
        return self._folder / f"best_{step}.pt"

    def _save(self) -> None:
        """Write a checkpoint; only then remove the weights that are no longer among the best."""
        content = {
            "step": self.step, "position": dataclasses.astuple(self.position),
            "model": self._model.state_dict(), "optimizer": self._optimizer.state_dict(),
            "telemetry": self._telemetry.state(), "best": self._best, "without_gain": self._without_gain,
            "metrics_bytes": self._metrics.sync(),
        }  # fmt: skip
        checkpoint.save_step(content, self._folder, self.step)
        kept = {self._best_path(step) for _, step in self._best}
        # What the checkpoint before this one would average stays too: it is gone back to if this one is damaged.
        kept |= {self._best_path(step) for step in self._previous_best}
        for path in set(self._folder.glob("best_*.pt")) - kept:
            path.unlink()
        self._previous_best = [step for _, step in self._best]

    def _resume(self) -> int:
        """Take up the last checkpoint, if there is one; returns the length of metrics.jsonl at that time, in bytes."""
        self._previous_best: list[int] = []
        written = checkpoint.steps(self._folder)
        if not written:
            return 0
        state = checkpoint.load(self._folder / f"step_{written[-1]}.pt", self._device)
        self.step, self._best, self._without_gain = state["step"], state["best"], state["without_gain"]
        self.position = Position(*state["position"])
        self._model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        self._telemetry.restore(state["telemetry"], self._device)
        LOG.info("resuming after step %d", self.step)
        return state["metrics_bytes"]

    def _interrupt(self, *_: object) -> None:
        self._interrupted = True


def _is_out_of_memory(error: Exception) -> bool:
    """Tell whether memory has run out; torch raises a bare RuntimeError for the CPU's."""
    words = ("out of memory", "can't allocate memory", "not enough memory")
    return isinstance(error, MemoryError) or any(word in str(error).lower() for word in words)
