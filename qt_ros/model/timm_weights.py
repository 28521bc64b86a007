"""Loading of ImageNet weights published for timm's EfficientNets, from a file or from the Hugging Face hub."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from qt_ros.model.efficientnet import FilmEfficientNet

OWN_PARTS = ("films.", "projection.", "projection_film.")  # not in timm's models
IGNORED = ("classifier.weight", "classifier.bias")  # the ImageNet classifier, of no use here
# Trained with another image normalisation (mean and deviation 0.5): they would load and then see wrong colours.
OTHER_NORMALISATION = (".ap_in1k", ".ra4_e3600")
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


class WeightsError(RuntimeError):
    """Published weights could not be had or do not fit; the message says what to do."""


def load_timm_weights(encoder: FilmEfficientNet, source: str | Path) -> None:
    """Load everything but FiLM, projection and classifier into `encoder` from published weights; strict otherwise.

    source: a .safetensors file, a folder with model.safetensors, or a hub id such as 'timm/efficientnet_b3.ra2_in1k'
    (vision_padding 'symmetric') or 'timm/tf_efficientnet_b3.in1k' ('same' or 'rt1'). WeightsError when the file is not
    there, cannot be downloaded, or a name or shape differs.
    """
    if any(tag in str(source) for tag in OTHER_NORMALISATION):
        raise WeightsError(
            f"{source}: trained with another image normalisation; use e.g. ra_in1k, ra2_in1k, ft_in1k, aa_in1k"
        )
    path = _locate(source)
    try:
        found: dict[str, Tensor] = load_file(str(path))
    except (SafetensorError, OSError) as error:
        raise WeightsError(f"{path}: not a readable safetensors file ({error}); download it again") from error
    own = encoder.state_dict()
    wanted = {name: value for name, value in own.items() if not name.startswith(OWN_PARTS)}
    found = {name: value for name, value in found.items() if name not in IGNORED}
    # Counters of seen batches play no part here, and weights ported from other frameworks lack them.
    missing = sorted(name for name in wanted.keys() - found.keys() if not name.endswith("num_batches_tracked"))
    unknown = sorted(found.keys() - wanted.keys())
    wrong = sorted(
        f"{name} {tuple(found[name].shape)} instead of {tuple(wanted[name].shape)}"
        for name in wanted.keys() & found.keys()
        if found[name].shape != wanted[name].shape
    )
    if missing or unknown or wrong:
        raise WeightsError(
            f"{source}: does not fit {encoder.name}: {_few('missing', missing)}, {_few('unknown', unknown)}, "
            f"{_few('wrong shape', wrong)}; use weights of timm's {encoder.name} or tf_{encoder.name}"
        )
    with torch.no_grad():
        for name, value in found.items():
            own[name].copy_(value)


def _locate(source: str | Path) -> Path:
    path = Path(source)
    if path.is_dir():
        path = path / "model.safetensors"
    if path.is_file():
        if path.suffix != ".safetensors":
            raise WeightsError(f"{path}: only .safetensors is read, since pickles can run code; convert it first")
        return path
    name = str(source).removeprefix("hf-hub:").removeprefix("hf_hub:")
    if path.suffix == ".safetensors" or not HUB_ID.fullmatch(name):
        raise WeightsError(
            f"{source}: no such file; give a .safetensors file or a hub id like timm/efficientnet_b3.ra2_in1k"
        )
    try:
        from huggingface_hub import hf_hub_download
    except ImportError as error:
        raise WeightsError(
            f"{name}: install huggingface_hub, or download model.safetensors and give its path"
        ) from error
    try:
        return Path(hf_hub_download(name, "model.safetensors"))
    except Exception as error:  # the hub client raises many kinds; all mean that the file cannot be had
        raise WeightsError(
            f"{name}: not in the local cache and could not be downloaded ({type(error).__name__}: {error}); "
            "on a machine with a network run `hf download` for it, or give the path of a .safetensors file"
        ) from error


def _few(label: str, names: list[str]) -> str:
    shown = ", ".join(names[:3]) + (" ..." if len(names) > 3 else "")
    return f"{len(names)} {label}" + (f" ({shown})" if names else "")
