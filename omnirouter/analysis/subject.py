"""One trained mixture of experts and its routing on one set: what the figures are drawn of."""

from dataclasses import dataclass
from pathlib import Path

from omnirouter.analysis.assignments import Assignments, read_assignments
from omnirouter.data.errors import UserError
from omnirouter.data.fields import build, load_yaml
from omnirouter.models.config import ModelConfig, routing_plan

ENCODERS = {"dense": "dense", "switch": "Switch", "omnirouter": "Omni-router"}


@dataclass(frozen=True)
class Subject:
    """One experiment's routing on one set."""

    name: str
    config: ModelConfig
    assignments: Assignments

    @property
    def title(self) -> str:
        """What figures call it."""
        return title_of(self.name, self.config)

    @property
    def routers(self) -> list[int]:
        """Which router each MoE layer has."""
        return [layer.router for layer in routing_plan(self.config) if layer.experts]


def title_of(name: str, config: ModelConfig) -> str:
    """The name of an experiment, with the kind of its encoder where the name does not say it."""
    return name if config.encoder in name.lower() else f"{name} ({ENCODERS[config.encoder]})"


def read_config(exp: Path) -> ModelConfig:
    """The configuration of an experiment's model."""
    path = exp / "config.yaml"
    if not path.exists():
        raise UserError(f"{path} does not exist; stage 4 makes it")
    return build(ModelConfig, load_yaml(path)["model"], str(path))


def read_subject(exp: Path, set_name: str) -> Subject:
    """Read what stage 7 has found of an experiment; UserError where it has not run."""
    assignments = read_assignments(exp / f"routing_{set_name}" / "experts.npz")
    return Subject(exp.name, read_config(exp), assignments)
