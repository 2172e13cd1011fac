"""The learning rate at points worked out by hand."""

import dataclasses

import pytest

from omnirouter.training.config import OptimConfig
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


def test_defaults_are_the_papers() -> None:
    paper = OptimConfig()
    assert learning_rate(63999, paper) == pytest.approx(1e-3)
    assert learning_rate(31999, paper) == pytest.approx(0.5e-3)
    assert learning_rate(124000, paper) == pytest.approx(0.5e-3)
