"""Data of the report as scripts: a page opened from disk may run a script beside it, but not fetch a file."""

import base64
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np


def write_script(folder: Path, name: str, value: Any) -> None:
    """Write `folder/name.js`, which hands `value` to the page as base64 of zlib-compressed JSON.

    The page unpacks it without evaluating it, whatever characters it holds.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    packed = base64.b64encode(zlib.compress(text.encode()))
    (folder / f"{name}.js").write_text(f'REPORT.receive("{name}", "{packed.decode()}");\n', encoding="ascii")


def characters(values: np.ndarray) -> str:
    """Return small numbers (n,) as a string of a character each, from "0" on, which is short and unpacks fast."""
    return (values + ord("0")).astype("<u4").tobytes().decode("utf-32-le")
