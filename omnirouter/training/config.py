"""The configuration of an experiment: what conf/*.yaml holds, section by section."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from omnirouter.data.errors import UserError
from omnirouter.data.features import FeatureConfig
from omnirouter.data.fields import build, checked, load_yaml, override
from omnirouter.data.sampler import BatchConfig
from omnirouter.data.specaugment import SpecAugmentConfig
from omnirouter.models.config import ModelConfig, check_choice

DECAYED = ("matrices", "all")
CLIP_BY = ("norm", "value")
DISTRIBUTED = ("ddp", "fsdp")
PRECISIONS = ("fp32", "bf16")


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    lr: float = 1e-3
    """Peak learning rate."""
    warmup_steps: int = 64000
    """Steps of growth from 0 to the peak."""
    warmup_power: float = 1.0
    """The warm-up grows as this power of its steps. The paper says only "warm-up"; 1, a straight line, is the usual."""
    cosine_steps: int = 60000
    """Steps of cosine decay after the warm-up."""
    cosine_end_ratio: float = 0.5
    """Learning rate at the end of the cosine, as a share of the peak. The paper does not say where its cosine ends; at
    0.5 it is the first of the halvings that follow. Were it 0, nothing would be left to decay in steps."""
    step_every: int = 60000
    """Steps between two decays after the cosine; the first comes this long after its end. The paper gives the factor
    only; the default is the length of its cosine, which halves too."""
    step_factor: float = 0.5
    """Factor of each of these decays."""
    weight_decay: float = 0.01
    """AdamW's decay."""
    weight_decay_on: str = "matrices"
    """matrices (not norms, biases and routers) or all (every parameter). The paper gives the number only; matrices is
    the custom for Transformers, and a decayed router would be pulled towards one that does not decide."""
    beta1: float = 0.9
    beta2: float = 0.98
    """AdamW's averages; the paper does not give them. These are the Transformer's (Vaswani et al. 2017)."""
    clip_norm: float = 0.1
    """Bound of the gradient, which is that of the loss averaged over a step's utterances, not summed, and not averaged
    over tokens. The paper does not say which; its balance weight of 10 suits a loss of this scale."""
    clip_by: str = "norm"
    """What clip_norm bounds: the norm of the whole gradient, or each value by itself. The paper says "gradient clipping
    set at 0.1"; that of the norm is what recipes for Transformers mean."""

    def __post_init__(self) -> None:
        if self.lr <= 0 or self.clip_norm <= 0 or min(self.warmup_steps, self.cosine_steps, self.step_every) < 1:
            raise UserError("optim: lr, clip_norm, warmup_steps, cosine_steps and step_every must be positive")
        if min(self.cosine_end_ratio, self.step_factor, self.weight_decay) < 0:
            raise UserError("optim: cosine_end_ratio, step_factor and weight_decay must not be negative")
        if not (0 <= self.beta1 < 1 and 0 <= self.beta2 < 1):
            raise UserError(f"optim: beta1 and beta2 must lie in [0, 1), are {self.beta1} and {self.beta2}")
        if self.warmup_power <= 0:
            raise UserError(f"optim.warmup_power: must be positive, is {self.warmup_power}")
        check_choice("optim.weight_decay_on", self.weight_decay_on, DECAYED)
        check_choice("optim.clip_by", self.clip_by, CLIP_BY)


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    max_steps: int = 1000000
    """Training ends after this many steps at the latest."""
    batches_per_step: int = 0
    """Batches whose gradients make one step, shared out among the processes; 0: one for each process, or as many as a
    training to go on with has, where that can be shared out. The same number gives the same training whatever the
    number of processes. The paper's 7 hours a step are 16 batches of 1575 s."""
    balance_weight: float = 10.0
    """Weight of the load-balancing loss, beside a CTC loss summed over an utterance and averaged over utterances; of
    several batches a step, the mean of their balance losses (and z-losses) counts."""
    z_loss_weight: float = 0.0
    """Weight of the routers' z-loss, beside the same CTC loss (Zoph et al. 2022 use 0.001 beside a loss per token);
    0: none."""
    seed: int = 1
    """Of initial weights, batches, augmentation and dropout."""
    distributed: str = "ddp"
    """How several processes hold the model: ddp (each a copy) or fsdp (each a share of weights, gradients and moments,
    for a model that does not fit; it sends more)."""
    precision: str = "fp32"
    """fp32, or bf16 for matrix products and attention, with weights, router, softmax, norms and CTC in fp32."""
    compile: bool = False
    """Let torch.compile make the blocks faster; dropout then draws other numbers."""
    activation_checkpointing: bool = False
    """Keep only the blocks' inputs for the backward pass and compute the rest again: less memory, a third more work."""
    max_skipped_steps: int = 10
    """A step whose loss or gradient is not finite is skipped; training ends when that has happened more often. While it
    is unfinished this may be changed."""
    max_unreadable_share: float = 0.01
    """Training goes on without an utterance whose audio or stored features cannot be read, with a warning that names
    it, and ends when those found so far are more than this share of the set. While it is unfinished this may be
    changed."""
    log_every: int = 50
    """Steps between two records in metrics.jsonl."""
    valid_every: int = 1000
    """Steps between two validations; each writes a checkpoint."""
    valid_batch_s: float = 200.0
    """Most padded audio in a validation batch."""
    patience: int = 10
    """Training ends after this many validations in a row, after the warm-up, without a lower word error rate; the paper
    says only that it ends when the greedy word error rate "plateaus". Where the rate decays in steps, patience times
    valid_every should exceed optim.step_every, or a plateau ends the training before the next decay."""
    average_best: int = 5
    """The final model is the average of this many checkpoints with the lowest dev word error rates. The paper takes
    "the optimal checkpoint" by its dev set, which is 1; averaging the best few departs from it, as recipes for CTC and
    Transformers usually do, since their mean depends less on which checkpoint happens to be lucky on the dev set."""
    checkpoint_every_s: float = 240.0
    """Longest time between two checkpoints; also counted in steps by valid_every."""
    threads: int = 0
    """CPU threads of each training process; 0: what OMP_NUM_THREADS says, or all cores."""
    workers: int = 1
    """Processes that load batches ahead, for each training process; 0: none, load in the training process."""

    def __post_init__(self) -> None:
        for name in ("max_steps", "log_every", "valid_every", "patience", "average_best"):
            if getattr(self, name) < 1:
                raise UserError(f"training.{name}: must be at least 1, is {getattr(self, name)}")
        for name in (
            "balance_weight", "z_loss_weight", "threads", "workers", "batches_per_step", "max_skipped_steps",
        ):  # fmt: skip
            if getattr(self, name) < 0:
                raise UserError(f"training.{name}: must not be negative, is {getattr(self, name)}")
        for name in ("valid_batch_s", "checkpoint_every_s"):
            if getattr(self, name) <= 0:
                raise UserError(f"training.{name}: must be positive, is {getattr(self, name)}")
        if not 0 <= self.max_unreadable_share <= 1:
            raise UserError(f"training.max_unreadable_share: must lie in [0, 1], is {self.max_unreadable_share}")
        if not 0 <= self.seed < 2**32:
            raise UserError(f"training.seed: must lie in 0 … 2**32 - 1, is {self.seed}")
        check_choice("training.distributed", self.distributed, DISTRIBUTED)
        check_choice("training.precision", self.precision, PRECISIONS)


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """All sections; each field of each section can be set in a YAML file or by --set section.key=value."""

    model: ModelConfig = field(default_factory=ModelConfig)
    specaugment: SpecAugmentConfig = field(default_factory=SpecAugmentConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    batch: BatchConfig = field(default_factory=BatchConfig)
    optim: OptimConfig = field(default_factory=OptimConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)

    def for_processes(self, ranks: int, begun_with: int = 0) -> "ExperimentConfig":
        """Say how many batches make a step where the configuration leaves that to the number of processes.

        begun_with: as many as they are in a training to go on with (0: in none), if these can be shared out evenly.
        Raises UserError when they cannot be shared out evenly.
        """
        usual = begun_with if begun_with % ranks == 0 else 0
        batches = self.training.batches_per_step or usual or ranks
        if batches % ranks:
            raise UserError(
                f"training.batches_per_step: {batches} batches cannot be shared out evenly among {ranks} processes; "
                f"start a number of processes that divides {batches}, or set a multiple of {ranks}"
            )
        return dataclasses.replace(self, training=dataclasses.replace(self.training, batches_per_step=batches))

    def as_dict(self) -> dict[str, Any]:
        """Nested dictionary of every field, defaults included."""
        return dataclasses.asdict(self)


def load_config(path: Path, settings: Sequence[str] = (), variant: str = "") -> ExperimentConfig:
    """Read a YAML configuration and apply settings `section.key=value`; unknown keys raise UserError.

    A top-level key `base` names another file, relative to this one, whose values this one's replace. A top-level key
    `variants` holds sections by name, such as the schedule for a smaller corpus: those named by `variant` replace the
    values of the same file, and are replaced by those of a file based on it. An experiment's config.yaml can be read
    too: what it says of its `inputs` is left out.
    """
    layers = _layers(path)
    known = sorted({name for _, variants in layers for name in variants})
    if variant and variant not in known:
        raise UserError(
            f"{path}: neither it nor its bases have a variant {variant!r} (known: {', '.join(known) or 'none'}); to "
            "use its values as they are, give --variant="
        )
    values: dict[str, Any] = {}
    for own, variants in layers:
        values = _replaced(_replaced(values, own), variants.get(variant, {}))
    values.pop("inputs", None)
    checked(ExperimentConfig, override({}, settings), "--set")
    return build(ExperimentConfig, override(values, settings), str(path))


def _layers(path: Path, above: tuple[Path, ...] = ()) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Return the values and the variants of a file and of its bases, the undermost first; above: whose base it is."""
    values = load_yaml(path)
    base = values.pop("base", None)
    layer = [(values, _variants(path, values.pop("variants", {})))]
    if base is None:
        return layer
    above = (*above, path.resolve())
    if not isinstance(base, str) or not (path.parent / base).is_file():
        raise UserError(f"{path}: its base {base!r} is not a file beside it")
    if (path.parent / base).resolve() in above:
        raise UserError(f"{path}: its base {base!r} is based on this file")
    return _layers(path.parent / base, above) + layer


def _variants(path: Path, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict):
        raise UserError(f"{path}: variants: expected names with sections, found {values!r}")
    return {str(name): checked(ExperimentConfig, own, f"{path}: variants: {name}") for name, own in values.items()}


def _replaced(values: dict[str, Any], by: Mapping[str, Any]) -> dict[str, Any]:
    """Return sections with some of their fields replaced."""
    result = dict(values)
    for section, fields in by.items():
        known = result.get(section)
        result[section] = {**known, **fields} if isinstance(known, dict) and isinstance(fields, dict) else fields
    return result
