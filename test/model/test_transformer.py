from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from qt_ros.model.transformer import Attention, Transformer


def stack(feedforward: str = "gelu", dropout: float = 0.0, final_norm: bool = True) -> Transformer:
    torch.manual_seed(0)
    net = Transformer(3, 16, 2, 12, feedforward, dropout, final_norm)
    for parameter in net.parameters():
        nn.init.normal_(parameter, std=0.3)
    return net.eval()


def causal(length: int) -> Tensor:
    return torch.ones(length, length, dtype=torch.bool).tril()[None, None]


def test_one_block_is_pre_norm_attention_then_pre_norm_feedforward() -> None:
    """Against the formulas, written out for one head at a time."""
    torch.manual_seed(0)
    net = Transformer(1, 16, 2, 12, "linear", 0.0, False).eval()
    block: Any = net.blocks[0]
    x, mask = torch.randn(2, 5, 16), causal(5)
    y = block.norm1(x)
    q, k, v = (block.attention.qkv(y).view(2, 5, 3, 2, 12)[:, :, i] for i in range(3))
    heads = []
    for h in range(2):
        scores = q[:, :, h] @ k[:, :, h].transpose(1, 2) / 12**0.5
        heads.append(scores.masked_fill(~mask[0], -torch.inf).softmax(-1) @ v[:, :, h])
    wanted = x + block.attention.out(torch.cat(heads, dim=-1))
    wanted = wanted + block.feedforward(block.norm2(wanted))
    torch.testing.assert_close(net(x, mask)[0], wanted)


def test_rt1s_feedforward_is_one_linear_map_and_the_other_is_four_times_as_wide() -> None:
    linear = stack("linear").blocks[0].feedforward
    assert isinstance(linear, nn.Linear)
    assert linear.weight.shape == (16, 16)
    wide: Any = stack("gelu").blocks[0].feedforward
    assert wide[0].weight.shape == (64, 16)
    with pytest.raises(ValueError, match="feedforward must be 'linear' or 'gelu'"):
        stack("relu")


def test_a_masked_position_has_no_influence() -> None:
    net, x, mask = stack(), torch.randn(1, 6, 16), causal(6)
    changed = x.clone()
    changed[:, 4] = torch.randn(1, 16)
    a, b = net(x, mask)[0], net(changed, mask)[0]
    assert torch.equal(a[:, :4], b[:, :4])
    assert not torch.allclose(a[:, 4:], b[:, 4:])


@pytest.mark.parametrize("pieces", [[6], [5, 1], [1] * 6, [3, 2, 1]])
def test_the_cache_gives_what_the_whole_sequence_gives(pieces: list[int]) -> None:
    net, x, mask = stack(), torch.randn(2, 6, 16), causal(6)
    whole, _ = net(x, mask)
    cache, done, parts = None, 0, []
    for size in pieces:
        part, cache = net(x[:, done : done + size], mask[:, :, done : done + size, : done + size], cache)
        parts.append(part)
        done += size
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, atol=1e-5, rtol=0)


def test_dropout_acts_in_training_only() -> None:
    net, x = stack(dropout=0.5), torch.randn(1, 6, 16)
    assert torch.equal(net(x, causal(6))[0], net(x, causal(6))[0])
    net.train()
    assert not torch.allclose(net(x, causal(6))[0], net(x, causal(6))[0])


def test_mixed_precision_on_the_cpu_gives_the_same_output_and_gradients_up_to_rounding() -> None:
    torch.manual_seed(0)
    attention = Attention(width=16, heads=2, head_dim=8, dropout=0.0)
    x, mask = torch.randn(4, 6, 16), torch.ones(6, 6, dtype=torch.bool).tril()
    results = []
    for mixed in (False, True):
        attention.zero_grad()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            y, _ = attention(x, mask, None)
        y.float().square().sum().backward()
        gradient = attention.qkv.weight.grad
        assert gradient is not None
        results.append((y.detach().float(), gradient.clone()))
        assert y.dtype == (torch.bfloat16 if mixed else torch.float32)
    for full, mixed_result in zip(*results, strict=True):
        assert (full - mixed_result).norm() < 0.03 * full.norm()
