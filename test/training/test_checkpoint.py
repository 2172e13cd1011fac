"""Checkpoints: averages, damaged files, how many are kept."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from omnirouter.data.errors import UserError
from omnirouter.training import checkpoint


def test_average_by_hand(tmp_path: Path) -> None:
    for i, values in enumerate(([1.0, 2.0], [3.0, 8.0], [5.0, 2.0])):
        checkpoint.save({"w": torch.tensor(values)}, tmp_path / f"{i}.pt")
    mean = checkpoint.average([tmp_path / f"{i}.pt" for i in range(3)])
    assert mean["w"].tolist() == [3.0, 4.0] and mean["w"].dtype == torch.float32


def test_the_last_two_are_kept(tmp_path: Path) -> None:
    for step in (5, 10, 100):
        checkpoint.save_step({"step": step}, tmp_path, step)
    assert checkpoint.steps(tmp_path) == [10, 100]


def test_a_damaged_file_says_what_to_do(tmp_path: Path) -> None:
    checkpoint.save({"w": torch.ones(1000)}, tmp_path / "step_1.pt")
    whole = (tmp_path / "step_1.pt").read_bytes()
    (tmp_path / "step_1.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="step_1.pt: damaged.*delete it"):
        checkpoint.load(tmp_path / "step_1.pt")


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from /proc")
def test_a_checkpoint_is_mapped_not_read(tmp_path: Path) -> None:
    def private_mib() -> float:
        line = next(s for s in Path("/proc/self/status").read_text().splitlines() if s.startswith("RssAnon"))
        return int(line.split()[1]) / 2**10

    checkpoint.save({"w": torch.arange(2**24)}, tmp_path / "a.pt")  # 128 MiB
    before = private_mib()
    state = checkpoint.load(tmp_path / "a.pt")
    assert private_mib() - before < 16
    assert int(state["w"][-1]) == 2**24 - 1 and state["w"].device.type == "cpu"


def test_code_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple:
            return Path.touch, (tmp_path / "pwned",)

    torch.save({"w": Trap()}, tmp_path / "evil.pt")
    with pytest.raises(UserError):
        checkpoint.load(tmp_path / "evil.pt")
    assert not (tmp_path / "pwned").exists()


def test_a_full_disk_names_the_file(tmp_path: Path) -> None:
    code = (
        "import resource, sys, torch\nfrom pathlib import Path\nfrom omnirouter.data.errors import UserError\n"
        "from omnirouter.training import checkpoint\nresource.setrlimit(resource.RLIMIT_FSIZE, (9000, 9000))\n"
        "import signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "try:\n    checkpoint.save({'x': torch.zeros(100000)}, Path(sys.argv[1]))\n"
        "except UserError as error:\n    print(error)"
    )
    path = tmp_path / "step_1.pt"
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.stdout.startswith(f"{path}: cannot be written (File too large)"), done.stderr
    assert not path.exists() and not list(tmp_path.iterdir())
