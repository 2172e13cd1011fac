"""Numbers that the paper prints and the figures are held against: its only ones on routing are the tables of Fig. 4."""

import numpy as np
import torch

from omnirouter.models.agreement import cramers_v

LAYERS = (14, 15)
"""The layers of Fig. 4, of 16."""
TABLES = {
    "switch": np.array([[102, 26, 16, 0], [38, 33, 36, 8], [4, 34, 49, 32], [3, 62, 1, 58]]),
    "omnirouter": np.array([[127, 1, 3, 0], [0, 109, 3, 0], [0, 0, 107, 26], [4, 0, 44, 78]]),
}
"""Fig. 4: tokens by expert of layer 14 (rows) and of layer 15 (columns), by encoder."""
CRAMERS_V = {encoder: cramers_v(torch.from_numpy(table)) for encoder, table in TABLES.items()}
"""Cramér's V of these tables, which the paper does not print itself."""
