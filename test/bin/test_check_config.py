"""The check of a configuration: its exit status and its haste."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def check(folder: Path, *args: str) -> subprocess.CompletedProcess[str]:
    """Run it with a torch that cannot be imported: the real one takes seconds."""
    (folder / "torch.py").write_text("raise SystemExit('torch is imported')\n")
    (folder / "c.yaml").write_text("model:\n  dim: 64\n")
    command = [sys.executable, "-m", "omnirouter.bin.check_config", *args]
    environment = {**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True, check=False)


def test_a_good_configuration_passes_quietly_and_without_torch(tmp_path: Path) -> None:
    result = check(tmp_path, "--config", "c.yaml", "--set", "model.heads=2 optim.lr=1e-3")
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_mistakes_in_the_file_and_in_the_settings_are_errors(tmp_path: Path) -> None:
    for args, words in {
        ("--config", "d.yaml"): "d.yaml: cannot be read",
        ("--config", "c.yaml", "--set", "model.headz=2"): "--set: model: unknown key 'headz'",
        ("--config", "c.yaml", "--set", "model.heads=5"): "heads",
    }.items():
        result = check(tmp_path, *args)
        assert result.returncode == 1 and result.stderr.startswith("error: ") and result.stderr.count("\n") == 1
        assert words in result.stderr, result.stderr
