from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from qt_ros.model.efficientnet import FilmEfficientNet
from qt_ros.model.timm_weights import WeightsError, load_timm_weights

OWN = ("films.", "projection.", "projection_film.")


def encoder(name: str = "efficientnet_b0") -> FilmEfficientNet:
    return FilmEfficientNet(name, 64, 64, 8, 4, "symmetric", "frozen")


@pytest.fixture
def published() -> dict[str, Tensor]:
    """What timm publishes: its names (pinned in test_efficientnet), the classifier among them."""
    tensors = {k: torch.rand_like(v.float()) for k, v in encoder().state_dict().items() if not k.startswith(OWN)}
    tensors |= {"classifier.weight": torch.zeros(1000, 1280), "classifier.bias": torch.zeros(1000)}
    return tensors


def test_published_weights_replace_everything_but_our_own_parts(published: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(published, tmp_path / "model.safetensors")
    net = encoder()
    own = {k: v.clone() for k, v in net.state_dict().items() if k.startswith(OWN)}
    load_timm_weights(net, tmp_path)
    for name, value in net.state_dict().items():
        wanted = own[name] if name in own else published[name].to(value.dtype)
        assert torch.equal(value, wanted), name


def test_weights_without_batch_counters_load(published: dict[str, Tensor], tmp_path: Path) -> None:
    kept = {k: v for k, v in published.items() if not k.endswith("num_batches_tracked")}
    save_file(kept, tmp_path / "w.safetensors")
    load_timm_weights(encoder(), tmp_path / "w.safetensors")


def test_a_missing_a_foreign_and_a_misshapen_tensor_are_named(published: dict[str, Tensor], tmp_path: Path) -> None:
    del published["bn1.bias"]
    published["fc.weight"] = torch.zeros(3)
    published["conv_head.weight"] = torch.zeros(7, 320, 1, 1)
    save_file(published, tmp_path / "w.safetensors")
    net = encoder()
    before = net.conv_stem.weight.clone()
    with pytest.raises(
        WeightsError, match=r"1 missing \(bn1.bias\), 1 unknown \(fc.weight\), 1 wrong shape \(conv_head.w"
    ):
        load_timm_weights(net, tmp_path / "w.safetensors")
    assert torch.equal(net.conv_stem.weight, before)


def test_weights_of_another_variant_are_refused(published: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(published, tmp_path / "w.safetensors")
    with pytest.raises(WeightsError, match="does not fit efficientnet_b1"):
        load_timm_weights(encoder("efficientnet_b1"), tmp_path / "w.safetensors")


def test_a_missing_file_says_what_may_be_given(tmp_path: Path) -> None:
    with pytest.raises(WeightsError, match=r"no such file; give a \.safetensors file or a hub id"):
        load_timm_weights(encoder(), tmp_path / "gone.safetensors")


def test_a_pickle_is_not_opened(tmp_path: Path) -> None:
    (tmp_path / "w.pth").write_bytes(b"\x80\x04.")
    with pytest.raises(WeightsError, match="pickles can run code"):
        load_timm_weights(encoder(), tmp_path / "w.pth")


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "w.safetensors").write_bytes(b"not safetensors")
    with pytest.raises(WeightsError, match=r"w\.safetensors: not a readable safetensors file"):
        load_timm_weights(encoder(), tmp_path / "w.safetensors")


def test_weights_with_another_image_normalisation_are_refused() -> None:
    with pytest.raises(WeightsError, match="another image normalisation"):
        load_timm_weights(encoder(), "timm/tf_efficientnet_b0.ap_in1k")


def test_without_a_network_a_hub_id_gives_advice(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(WeightsError, match=r"could not be downloaded .* give the path of a \.safetensors file"):
        load_timm_weights(encoder(), "timm/efficientnet_b0.ra_in1k")
