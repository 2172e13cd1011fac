"""Data of the report as scripts: a page opened from disk may run a script beside it, but not fetch a file."""

import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np

BITS = 15  # of a letter; the page unpacks as many
FIRST_LETTER = 0x3000  # from which on 2 ** 15 code points are one UTF-16 unit each, and neither quotes nor line ends


def write_script(folder: Path, name: str, value: Any) -> None:
    """Write `folder/name.js`, which hands `value` to the page as zlib-compressed JSON in `letters`.

    The page unpacks it without evaluating it, whatever characters it holds. The script is UTF-16 with a byte-order
    mark, which every browser obeys.
    """
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    packer = zlib.compressobj(strategy=zlib.Z_FILTERED)  # no short matches: the experts of tokens are much like chance
    packed = packer.compress(text.encode()) + packer.flush()
    (folder / f"{name}.js").write_text(
        f'\ufeffREPORT.receive("{name}", {len(packed)}, "{letters(packed)}");\n', encoding="utf-16-le", newline="\n"
    )


def letters(packed: bytes) -> str:
    """Return bytes as a string of 15 bits a character, of which UTF-16 takes 16 (base64 would take 20)."""
    bits = np.unpackbits(np.frombuffer(packed, np.uint8))
    bits = np.pad(bits, (0, -len(bits) % BITS)).reshape(-1, BITS)
    values = bits @ (1 << np.arange(BITS)[::-1])
    return (values + FIRST_LETTER).astype("<u2").tobytes().decode("utf-16-le")


def characters(values: np.ndarray) -> str:
    """Return small numbers (n,) as a string of a character each, from "0" on, which is short and unpacks fast."""
    return (values + ord("0")).astype("<u4").tobytes().decode("utf-32-le")
