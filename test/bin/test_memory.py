"""Large tensors of the command lines lie in large pages."""

import subprocess
import sys
from pathlib import Path

import pytest

SETTING = Path("/sys/kernel/mm/transparent_hugepage/enabled")
PROGRAM = """
import omnirouter.bin
import torch
tensor = torch.ones(64 * 2**18)
print(sum(int(line.split()[1]) for line in open("/proc/self/smaps") if line.startswith("AnonHugePages")))
"""


@pytest.mark.skipif(
    not SETTING.exists() or "[never]" in SETTING.read_text(), reason="this kernel gives no large pages on request"
)
def test_a_tensor_of_64_mib_lies_in_large_pages():
    printed = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True).stdout
    assert int(printed) >= 32 * 1024  # the kernel may lack some
