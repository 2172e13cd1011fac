"""The training loop: every step a function of the seed, the step and the weights, so that a resumed run repeats it."""

import dataclasses
import itertools
import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from omnirouter.data.dataset import Batch, FeatureUtterance, Share
from omnirouter.data.fbank import FRAMES_PER_S
from omnirouter.data.sampler import Position
from omnirouter.data.tokenizer import Tokenizer
from omnirouter.models.ctc import CtcModel
from omnirouter.training import checkpoint
from omnirouter.training.config import ExperimentConfig
from omnirouter.training.devices import CPU
from omnirouter.training.distributed import check_equal_weights, is_first, rank, ranks, summed
from omnirouter.training.log import LOG
from omnirouter.training.parallel import load_moments, whole
from omnirouter.training.rehearsal import advising, rehearse, size_of, step_advice, validation_advice
from omnirouter.training.schedule import learning_rate
from omnirouter.training.skipping import SkippedSteps, Unreadable
from omnirouter.training.step import StepGradient, left_out_layers, make_optimizer
from omnirouter.training.telemetry import MetricsFile, Telemetry, flatten, routing_warnings, tensorboard_writer
from omnirouter.training.validation import dev_errors


class Trainer:
    """Trains one model in one experiment directory; several processes do it together, each with its own Trainer."""

    def __init__(
        self,
        exp: Path,
        config: ExperimentConfig,
        model: CtcModel,
        tokenizer: Tokenizer,
        dev: Sequence[FeatureUtterance],
        device: torch.device = CPU,
        unreadable: Unreadable | None = None,
    ) -> None:
        """Take up the experiment's last checkpoint, if there is one; model: on the CPU; device: where to train it.

        unreadable: counts the utterances that batches lack because they cannot be read; without, none may.
        """
        self._exp, self._folder, self._config = exp, exp / "checkpoints", config
        self._model, self._tokenizer, self._dev = model, tokenizer, dev
        self._device = device
        self.share = Share(rank(), ranks(), config.training.batches_per_step)
        self._telemetry = Telemetry()
        self._best: list[list[int]] = []  # [dev errors, step] of the checkpoints to average, best first
        self._previous_best = self._best  # as the last checkpoint has it
        self._without_gain = 0
        self._skipped = SkippedSteps(config.training.max_skipped_steps, exp)
        self._unreadable = unreadable or Unreadable(0)
        self._interrupted = False
        self._routing_before: dict[str, dict[str, Any]] = {}
        self.step, self.position = 0, Position()
        length = self._begin()
        self._saved_step, self._saved_at = self.step, time.monotonic()
        self._metrics = MetricsFile(exp / "metrics.jsonl", length) if is_first() else None
        self._board = tensorboard_writer(exp / "tensorboard", self.step + 1) if is_first() else None

    def run(self, batches: Iterator[Batch]) -> list[Path]:
        """Train to the end on batches that begin at `self.position`; returns the checkpoints to average.

        SIGINT and SIGTERM, in any process, end it in all after the same step, with a checkpoint and KeyboardInterrupt.
        """
        training, of_step = self._config.training, self.share.batches_per_step // self.share.ranks
        with self._heeding_signals(), self._progress_bar() as bar:
            while not self._finished():
                started = time.monotonic()
                step_batches = list(itertools.islice(batches, of_step))
                known = self._together(step_batches)
                wait_s = time.monotonic() - started
                self._heed(known)
                if known["unreadable"]:
                    self._unreadable.add_from_all(step_batches)
                with advising(f"on {self._device} in {self._what(step_batches)}", self._advice()):
                    self._train_step(step_batches, known, wait_s)
                bar.update()
                if self.step % training.log_every == 0:
                    bar.set_postfix_str(self._record())
                if self.step % training.valid_every == 0 or self.step == training.max_steps:
                    with advising(f"on {self._device} in a validation", validation_advice(self._config)):
                        self._validate()
                    self._save()
            self._heed(self._together([]))
        return [self._best_path(step) for _, step in self._best]

    def rehearse(self, batch: Batch) -> None:
        """Do what a step does short of changing anything; UserError saying what to lower if memory does not suffice."""
        has_moments = bool(self._optimizer.state)
        rehearse(self._gradient, self._model, self._config, batch, has_moments, begun=self._saved_step > 0)

    def _advice(self) -> str:
        return step_advice(self._config, begun=self._saved_step > 0)

    def _what(self, batches: Sequence[Batch]) -> str:
        largest = max(batches, key=lambda batch: batch.padded_frames)
        return f"the step after {self.step}, largest batch {size_of(largest)}"

    def _finished(self) -> bool:
        training = self._config.training
        return self.step >= training.max_steps or self._without_gain >= training.patience

    def _together(self, batches: Sequence[Batch]) -> dict[str, float]:
        """Add up over all processes what each knows before a step, so that all do the same."""
        known = {
            "utterances": sum(len(batch.utt_ids) for batch in batches),
            "frames": sum(sum(batch.lengths) for batch in batches),
            "padded_frames": sum(batch.padded_frames for batch in batches),
            "unreadable": self._unreadable.count_new(batches),
            "empty": sum(not batch.utt_ids for batch in batches),
            "interrupted": self._interrupted,
            "late": time.monotonic() - self._saved_at > self._config.training.checkpoint_every_s,
        }
        return dict(zip(known, summed(torch.tensor([*known.values()], dtype=torch.float64)).tolist(), strict=True))

    def _heed(self, known: Mapping[str, float]) -> None:
        """Write a checkpoint where one is due; end if a process was told to."""
        if (known["late"] or known["interrupted"]) and self.step > self._saved_step:
            self._save()
        if known["interrupted"]:
            LOG.info("interrupted after step %d; the same command goes on from there", self.step)
            raise KeyboardInterrupt

    def _train_step(self, batches: Sequence[Batch], known: Mapping[str, float], wait_s: float) -> None:
        """Take a step on this process's batches; known: what all processes together have.

        Where any batch lacks all of its utterances, no process has anything to exchange: the step is passed over.
        """
        started = time.monotonic()
        self._rate = learning_rate(self.step, self._config.optim)
        if known["empty"]:
            LOG.warning("step %d: no utterance is left of a batch; the step is passed over", self.step)
        telemetry = Telemetry() if known["empty"] else self._update(batches, known)
        self.step += 1
        self.position, self._epoch = batches[0].after, batches[0].position.epoch
        telemetry.add({"wait_s": wait_s, "work_s": time.monotonic() - started}, {})
        self._telemetry.merge(telemetry)

    def _update(self, batches: Sequence[Batch], known: Mapping[str, float]) -> Telemetry:
        """Update the weights, unless something is not finite; returns the step's figures."""
        for group in self._optimizer.param_groups:
            group["lr"] = self._rate
        left_out = left_out_layers(self._config, self.step)
        result = self._gradient.compute(batches, int(known["utterances"]), left_out)
        telemetry = result.telemetry
        norm, clipped = self._gradient.clip()
        telemetry.add({"norm": norm / ranks()}, {})  # the same in all; their mean, so that all agree
        telemetry.share()
        if not telemetry.is_finite():
            self._skipped.add(self.step, result.not_finite())
            return Telemetry()
        self._optimizer.step()
        counts = {name: known[name] for name in ("utterances", "frames", "padded_frames")}
        telemetry.add({"steps": 1, "clipped": clipped, **counts}, {})
        return telemetry

    def _record(self) -> str:
        """Write the record of the interval that ends here, and start a new one; returns a summary."""
        total = self._telemetry.sum
        steps, wall_s = total("steps"), total("wait_s") + total("work_s")
        record: dict[str, Any] = {"step": self.step, "epoch": self._epoch, "skipped_steps": self._skipped.count}
        if steps:
            record |= {
                "ctc_loss": total("ctc") / total("utterances"), "balance_loss": self._mean_of_batches("balance"),
                **({"z_loss": self._mean_of_batches("z")} if self._config.training.z_loss_weight else {}),
                "lr": self._rate, "grad_norm": total("norm") / steps,
                "clipped_share": total("clipped") / steps, "utterances": total("utterances"),
                "padding_share": 1 - total("frames") / total("padded_frames"),
                "routing": self._telemetry.routing_record(),
            }  # fmt: skip
        record["time"] = {
            "wall_s": wall_s,
            "checkpoint_s": total("checkpoint_s"),
            "data_wait_share": total("wait_s") / wall_s,
            "audio_s_per_s": total("frames") / FRAMES_PER_S / wall_s,
        }
        self._telemetry = Telemetry()
        self._write(record)
        return self._report(record)

    def _mean_of_batches(self, name: str) -> float:
        return self._telemetry.sum(name) / (self._telemetry.sum("steps") * self._config.training.batches_per_step)

    def _report(self, record: Mapping[str, Any]) -> str:
        """Log a record, with warnings about its routing; returns its summary."""
        if "routing" not in record:
            return "all steps skipped"
        for warning in routing_warnings(self._routing_before, record["routing"]):
            LOG.warning("step %d: %s", self.step, warning)
        self._routing_before = record["routing"]
        summary = (
            f"ctc {record['ctc_loss']:.2f} balance {record['balance_loss']:.3f} lr {self._rate:.2e} "
            f"norm {record['grad_norm']:.1f} {record['time']['audio_s_per_s']:.0f} audio-s/s "
            f"padding {record['padding_share']:.0%} data wait {record['time']['data_wait_share']:.0%}"
        )
        LOG.info("step %d epoch %d %s", self.step, self._epoch, summary)
        return summary

    def _validate(self) -> None:
        """Decode the dev set greedily; keep the weights when they are among the best."""
        counts = dev_errors(self._model, self._tokenizer, self._dev, self._config.training)
        self._write(
            {"step": self.step, "valid": {"wer": counts.percent, "errors": counts.errors, "words": counts.ref_units}}
        )
        least = min((errors for errors, _ in self._best), default=math.inf)
        in_warmup = self.step <= self._config.optim.warmup_steps
        self._without_gain = 0 if counts.errors < least or in_warmup else self._without_gain + 1
        # Of equal checkpoints the later ones are kept: they have seen more.
        ranked = sorted([*self._best, [counts.errors, self.step]], key=lambda entry: (entry[0], -entry[1]))
        self._best = ranked[: self._config.training.average_best]
        if [counts.errors, self.step] in self._best:
            weights = whole(self._model.state_dict())
            if is_first():
                checkpoint.save(weights, self._best_path(self.step))
        LOG.info("step %d dev %s, best so far %d errors", self.step, counts, self._best[0][0])

    def _write(self, record: dict[str, Any]) -> None:
        if self._metrics is not None:
            self._metrics.write(record)
        if self._board is not None:
            for name, value in flatten(record).items():
                if name not in ("step", "epoch"):
                    self._board.add_scalar(name, value, self.step)

    def _best_path(self, step: int) -> Path:
        return self._folder / f"best_{step}.pt"

    def _save(self) -> None:
        """Write a checkpoint; only then remove the weights that are no longer among the best."""
        started = time.monotonic()
        content = {
            "step": self.step, "position": dataclasses.astuple(self.position),
            "model": whole(self._model.state_dict()), "optimizer": whole(self._optimizer.state_dict()),
            "telemetry": self._telemetry.state(), "best": self._best, "without_gain": self._without_gain,
            "skipped": self._skipped.count, "unreadable": self._unreadable.utt_ids,
        }  # fmt: skip
        self._saved_step, self._saved_at = self.step, time.monotonic()
        if self._metrics is None:
            return
        checkpoint.save_step({**content, "metrics_bytes": self._metrics.sync()}, self._folder, self.step)
        # What the checkpoint before this one would average stays too: it is gone back to if this one is damaged.
        kept = {self._best_path(step) for _, step in [*self._best, *self._previous_best]}
        for path in set(self._folder.glob("best_*.pt")) - kept:
            path.unlink()
        self._previous_best = self._best
        self._telemetry.add({"checkpoint_s": time.monotonic() - started}, {})

    def _begin(self) -> int:
        """Bring the model to the device, as it was at the last checkpoint, if there is one, and make its optimizer.

        Returns the length of metrics.jsonl at that time, in bytes.
        """
        state = checkpoint.load_last(self._folder)
        if state is not None:
            self._model.load_state_dict(state["model"])
            self.step = state["step"]
        check_equal_weights(self._model, self.step)
        self._gradient = StepGradient(self._model, self._config, self._device)
        self._optimizer = make_optimizer(self._model, self._config.optim)
        return 0 if state is None else self._resume(state)

    def _resume(self, state: Mapping[str, Any]) -> int:
        """Take up all of a checkpoint but the weights; returns the length of metrics.jsonl, in bytes."""
        self._best, self._without_gain = state["best"], state["without_gain"]
        self._previous_best = self._best
        self.position, self._skipped.count = Position(*state["position"]), state.get("skipped", 0)
        self._unreadable.restore(state.get("unreadable", ()))
        load_moments(self._optimizer, state["optimizer"])
        self._telemetry.restore(state["telemetry"], self._device)
        LOG.info("resuming after step %d", self.step)
        return state["metrics_bytes"]

    def _progress_bar(self) -> tqdm:
        steps, hidden = self._config.training.max_steps, None if is_first() else True  # None: where there is a terminal
        return tqdm(total=steps, initial=self.step, unit="step", disable=hidden, smoothing=0.02)

    @contextmanager
    def _heeding_signals(self) -> Iterator[None]:
        """Note SIGINT and SIGTERM instead of ending at once."""
        previous = {number: signal.signal(number, self._interrupt) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    def _interrupt(self, *_: object) -> None:
        self._interrupted = True
