"""Multi-head self-attention without biases."""

import torch.nn.functional as F
from torch import Tensor, nn

from omnirouter.models.packing import Packing


class SelfAttention(nn.Module):
    """Full self-attention within each utterance; padding is neither a query nor a key."""

    def __init__(self, dim: int, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.out = nn.Linear(dim, dim, bias=False)

    def forward(self, x_TD: Tensor, packing: Packing) -> Tensor:
        """Attend; packed tokens (T, D) in and out."""
        qkv = packing.unpack(self.qkv(x_TD)).unflatten(2, (3, self.heads, -1))
        query, key, value = qkv.permute(2, 0, 3, 1, 4)
        dropout = self.dropout if self.training else 0.0
        y = F.scaled_dot_product_attention(query, key, value, attn_mask=packing.key_mask, dropout_p=dropout)
        return self.out(packing.pack(y.transpose(1, 2).flatten(2)))
