"""The learning rate at points worked out by hand."""

import dataclasses

import pytest

from omnirouter.training.config import OptimConfig, TrainingConfig
from omnirouter.training.schedule import learning_rate

CONFIG = OptimConfig(lr=1.0, warmup_steps=10, cosine_steps=20, cosine_end_ratio=0.5, step_every=5, step_factor=0.5)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (0, 0.1),
        (9, 1.0),  # end of the warm-up
        (10, 1.0),
        (20, 0.75),  # half of the cosine: half way from 1 to 0.5
        (29, 0.5 + 0.5 * (1 + -0.9876883405951378) / 2),  # cos(19π/20)
        (30, 0.5),
        (34, 0.5),
        (35, 0.25),
        (44, 0.125),
    ],
)
def test_learning_rate(step: int, rate: float) -> None:
    assert learning_rate(step, CONFIG) == pytest.approx(rate)


@pytest.mark.parametrize(("power", "rate"), [(0.5, 0.4**0.5), (1.0, 0.4), (2.0, 0.16)])
def test_shape_of_the_warm_up(power: float, rate: float) -> None:
    config = dataclasses.replace(CONFIG, warmup_power=power)
    assert learning_rate(3, config) == pytest.approx(rate)  # the fourth step of ten
    assert learning_rate(9, config) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("step", "rate"),
    [
        (31_999, 0.5e-3),  # half of the warm-up
        (63_999, 1e-3),
        (94_000, 0.75e-3),  # half of the cosine
        (124_000, 0.5e-3),
        (183_999, 0.5e-3),  # the last before the first halving
        (184_000, 0.25e-3),
        (243_999, 0.25e-3),
        (244_000, 0.125e-3),
    ],
)
def test_defaults_are_the_papers(step: int, rate: float) -> None:
    assert learning_rate(step, OptimConfig()) == pytest.approx(rate)


def test_by_default_training_is_as_long_as_the_papers() -> None:
    assert TrainingConfig().max_steps == 1_000_000
