"""Pre-LayerNorm Transformer with an explicit mask and an optional key/value cache."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Cache = list[tuple[Tensor, Tensor]]  # per layer: keys and values, each (B, heads, positions, head_dim)


class Attention(nn.Module):
    """Multi-head self-attention whose inner width heads * head_dim is free of the model width."""

    def __init__(self, width: int, heads: int, head_dim: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.head_dim, self.dropout = heads, head_dim, dropout
        self.qkv = nn.Linear(width, 3 * heads * head_dim)
        self.out = nn.Linear(heads * head_dim, width)

    def forward(
        self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        batch, length, _ = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        if past is not None:
            k, v = torch.cat((past[0], k), dim=2), torch.cat((past[1], v), dim=2)
        dropout = self.dropout if self.training else 0.0
        if q.device.type == "cpu" and q.dtype == torch.bfloat16:
            # The CPU kernel's backward pass is several times slower in bfloat16 than in float32.
            with torch.autocast("cpu", enabled=False):
                y = F.scaled_dot_product_attention(q.float(), k.float(), v.float(), attn_mask=mask, dropout_p=dropout)
            y = y.to(q.dtype)
        else:
            y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, dropout_p=dropout)
        return self.out(y.transpose(1, 2).reshape(batch, length, -1)), (k, v)


class Block(nn.Module):
    """x + attention(LN x), then x + feed-forward(LN x). LayerNorm epsilon 1e-6 as RT-1."""

    def __init__(self, width: int, heads: int, head_dim: int, feedforward: str, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, eps=1e-6)
        self.attention = Attention(width, heads, head_dim, dropout)
        self.norm2 = nn.LayerNorm(width, eps=1e-6)
        self.feedforward: nn.Module
        if feedforward == "linear":
            self.feedforward = nn.Linear(width, width)
        elif feedforward == "gelu":
            self.feedforward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))
        else:
            raise ValueError(f"transformer: feedforward must be 'linear' or 'gelu', got {feedforward!r}")
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, mask: Tensor, past: tuple[Tensor, Tensor] | None
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y, present = self.attention(self.norm1(x), mask, past)
        x = x + y
        return x + self.dropout(self.feedforward(self.norm2(x))), present


class Transformer(nn.Module):
    """A stack of blocks. It knows nothing of frames or actions: who may see whom is the caller's mask."""

    def __init__(
        self, layers: int, width: int, heads: int, head_dim: int, feedforward: str, dropout: float, final_norm: bool
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width, heads, head_dim, feedforward, dropout) for _ in range(layers))
        self.norm = nn.LayerNorm(width, eps=1e-6) if final_norm else nn.Identity()

    def forward(self, x: Tensor, mask: Tensor, cache: Cache | None = None) -> tuple[Tensor, Cache]:
        """x (B, L, width), mask True = may attend, broadcastable to (B, heads, L, P + L) -> (B, L, width), new cache.

        cache: what an earlier call returned for the P positions before these; None when there are none. A row of the
        mask without a single True is not allowed (its softmax is undefined).
        """
        present: Cache = []
        for index, block in enumerate(self.blocks):
            x, pair = block(x, mask, None if cache is None else cache[index])
            present.append(pair)
        return self.norm(x), present
