"""What a run of the benchmarks is asked for, and the machine that it runs on."""

import importlib.util
import os
import platform
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch

from omnirouter.scoring.results import checkout_commit


@dataclass(frozen=True)
class Settings:
    """Options of tools/bench/run."""

    device: torch.device
    repeats: int
    quick: bool
    """Smaller problems, enough to see the suite work; their figures decide nothing."""
    corpus: Path | None
    """Folder that holds LibriSpeech/ with FLAC files; None where there is none."""
    configs: list[Path]
    """Configurations of train_step; empty: those of egs/libriheavy that the device can train."""


def installed(module: str) -> bool:
    """Tell whether a peer can be imported."""
    return importlib.util.find_spec(module) is not None


def machine(device: torch.device, command: str) -> str:
    """Describe, in lines of Markdown, the run that the tables below it come from."""
    lines = [
        f"date: {datetime.now(timezone.utc):%Y-%m-%d %H:%M} UTC, commit {checkout_commit()}",
        f"command: `{command}`",
        f"processor: {_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} threads used, "
        f"load average {os.getloadavg()[0]:.1f} when it began",
        f"Python {platform.python_version()}, torch {version('torch')}, torchaudio {version('torchaudio')}",
    ]
    if device.type == "cuda":
        lines.append(f"GPU: {torch.cuda.get_device_name(device)}")
    return "\n".join(f"- {line}" for line in lines)


def _processor() -> str:
    """Name of the processor, from Linux where it says it."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
