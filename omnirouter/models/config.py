"""The model's configuration, and what it says about which layer routes where."""

from dataclasses import dataclass, field

from omnirouter.data.errors import UserError

ENCODERS = ("dense", "switch", "omnirouter")
BALANCE_FORMS = ("switch", "paper")
POSITIONS = ("sinusoidal", "cape")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    encoder: str = "omnirouter"
    """dense; switch (one router a MoE layer); omnirouter (one router for all MoE layers of a group, eq. 6)."""
    layers: int = 16
    """Number of Transformer blocks."""
    dim: int = 512
    """Width D of the residual stream."""
    heads: int = 8
    """Attention heads; must divide dim."""
    ffn_dim: int = 4096
    """Inner width F of a feed-forward network, and of each expert."""
    experts: int = 4
    """Number N of experts in a MoE layer (ignored by dense, and where moe_groups is given)."""
    moe_every: int = 1
    """Every n-th layer is a MoE layer, counted from below; the others are dense."""
    moe_groups: list = field(default_factory=list)
    """Groups of consecutive layers as [layers, experts] pairs, from below: [[6, 2], [6, 4]] is six layers of 2 experts,
    then six of 4. Empty: one group of all layers."""
    top_k: int = 1
    """Experts a token is sent to."""
    balance: str = "switch"
    """Form of the load-balancing loss: switch (Fedus et al., the mean probability of all tokens) or paper (eq. 4 as
    printed, the mean over tokens of the probability of those dispatched)."""
    router_jitter: float = 0.0
    """In training a router's input is multiplied by uniform noise in [1 - jitter, 1 + jitter] (Fedus et al. 2022, who
    use 0.01); the experts see it without. 0: none."""
    positions: str = "sinusoidal"
    """sinusoidal (of the token's index) or cape (of its time from the utterance's middle, augmented in training)."""
    cape_global_shift_s: float = 60.0
    """CAPE moves a training utterance by up to this much, either way; the default is the CAPE authors' for speech."""
    cape_local_shift_s: float = 0.02
    """CAPE moves each training token by up to this much, either way; at half a token (0.02 of 0.04) their order stays,
    as the CAPE authors have it."""
    cape_max_scale: float = 1.1
    """CAPE stretches or shrinks a training utterance's positions by a factor of up to this, log-uniform; 1: not."""
    cape_rate_rad_per_s: float = 30.0
    """CAPE's fastest sinusoid, in radians a second of audio; the slowest is almost 10000 times slower."""
    dropout: float = 0.1
    """Dropout of the input, the attention output, and inside and after the feed-forward network."""
    attention_dropout: float = 0.1
    """Dropout of the attention weights."""
    layer_drop: float = 0.0
    """Probability of leaving out a whole block in a training step, the same blocks for all its batches."""
    n_mels: int = 80
    """Feature dimension."""
    stack_frames: int = 4
    """Consecutive 10 ms frames stacked to one token."""

    def __post_init__(self) -> None:
        check_choice("model.encoder", self.encoder, ENCODERS)
        check_choice("model.balance", self.balance, BALANCE_FORMS)
        for name in ("layers", "dim", "heads", "ffn_dim", "experts", "moe_every", "top_k", "n_mels", "stack_frames"):
            if getattr(self, name) < 1:
                raise UserError(f"model.{name}: must be at least 1, is {getattr(self, name)}")
        if self.dim % self.heads or (self.dim // self.heads) % 2:
            raise UserError(f"model.heads: {self.heads} heads do not divide model.dim {self.dim} into even parts")
        check_choice("model.positions", self.positions, POSITIONS)
        for name in ("dropout", "attention_dropout", "layer_drop", "router_jitter"):
            if not 0.0 <= getattr(self, name) < 1.0:
                raise UserError(f"model.{name}: must lie in [0, 1), is {getattr(self, name)}")
        _check_cape(self)
        _check_groups(self)
        if self.encoder != "dense" and self.moe_every > self.layers:
            raise UserError(
                f"model.moe_every: of {self.layers} layers none is the {self.moe_every}th: no experts at all"
            )
        smallest = min((layer.experts for layer in routing_plan(self) if layer.experts), default=self.top_k)
        if self.top_k > smallest:
            raise UserError(f"model.top_k: {self.top_k} experts asked for, a layer has {smallest}")


@dataclass(frozen=True)
class LayerPlan:
    """What one block's feed-forward part is: `experts` 0 means dense; `router` is the index of its router."""

    experts: int = 0
    router: int = -1


def routing_plan(config: ModelConfig) -> list[LayerPlan]:
    """Say for every layer, from below, how many experts it has and which router serves it.

    Switch gives each MoE layer a router of its own, Omni-router one to all MoE layers of a group (eq. 6).
    """
    if config.encoder == "dense":
        return [LayerPlan()] * config.layers
    plan: list[LayerPlan] = []
    routers = 0
    for group_layers, experts in config.moe_groups or [[config.layers, config.experts]]:
        shared = None
        for _ in range(group_layers):
            if (len(plan) + 1) % config.moe_every:
                plan.append(LayerPlan())
                continue
            if shared is None or config.encoder == "switch":
                shared = routers
                routers += 1
            plan.append(LayerPlan(experts, shared))
    return plan


def check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Raise UserError naming a field whose value is none of the choices."""
    if value not in choices:
        raise UserError(f"{name}: {value!r} is not one of {', '.join(choices)}")


def _check_cape(config: ModelConfig) -> None:
    for name in ("cape_global_shift_s", "cape_local_shift_s"):
        if getattr(config, name) < 0:
            raise UserError(f"model.{name}: must not be negative, is {getattr(config, name)}")
    if config.cape_max_scale < 1:
        raise UserError(f"model.cape_max_scale: must be at least 1, is {config.cape_max_scale}")
    if config.cape_rate_rad_per_s <= 0:
        raise UserError(f"model.cape_rate_rad_per_s: must be positive, is {config.cape_rate_rad_per_s}")


def _check_groups(config: ModelConfig) -> None:
    for group in config.moe_groups:
        if not (isinstance(group, list) and len(group) == 2 and all(isinstance(n, int) and n > 0 for n in group)):
            raise UserError(f"model.moe_groups: {group!r} is not a pair [layers, experts] of positive numbers")
    covered = sum(group[0] for group in config.moe_groups)
    if config.moe_groups and covered != config.layers:
        raise UserError(f"model.moe_groups: the groups have {covered} layers, model.layers is {config.layers}")
