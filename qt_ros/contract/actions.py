"""The discretised action space: names, units, ranges and bins of each dimension.

Q-Transformer (Chebotar et al., CoRL 2023) treats each action dimension as its own decision over uniform bins, in a
fixed order. Actions are kept in SI units everywhere; bins exist only here and in the model.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from qt_ros.contract.strict import ConfigError, build

MAX_DIMENSIONS = 64
TARGETS = ("arm", "gripper", "base", "episode")


@dataclass(frozen=True)
class ActionDimension:
    """One action dimension.

    ``low`` and ``high`` are in ``unit`` (SI; displacements are per policy step). ``neutral`` is the value that means
    "do nothing": the bin that holds it decodes to exactly that value, so that standing still is exactly zero although
    an even number of bins has no centre there. ``target`` says where the value is sent: arm, gripper, base or episode.
    """

    name: str
    unit: str
    low: float
    high: float
    target: str
    bins: int = 256
    neutral: float | None = None

    def __post_init__(self) -> None:
        if not self.name.isidentifier():
            raise ConfigError(f"action dimension name {self.name!r} is no identifier; use letters, digits and _")
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise ConfigError(f"action dimension {self.name}: need finite low < high, found {self.low} and {self.high}")
        if not 2 <= self.bins <= 32767:
            raise ConfigError(f"action dimension {self.name}: bins must be 2..32767, found {self.bins}")
        if self.target not in TARGETS:
            raise ConfigError(f"action dimension {self.name}: target {self.target!r} is none of {', '.join(TARGETS)}")
        if self.neutral is not None and not self.low <= self.neutral <= self.high:
            raise ConfigError(
                f"action dimension {self.name}: neutral {self.neutral} is outside [{self.low}, {self.high}]"
            )


class ActionSpace:
    """An ordered set of action dimensions with the same number of uniform bins each.

    ``encode`` and ``decode`` are inverse up to half a bin; decode(encode(x)) is idempotent, monotone in x and stays in
    range.
    """

    def __init__(self, dimensions: Sequence[ActionDimension]) -> None:
        if not dimensions:
            raise ConfigError("an action space needs at least one dimension")
        if len(dimensions) > MAX_DIMENSIONS:
            raise ConfigError(f"an action space of {len(dimensions)} dimensions; at most {MAX_DIMENSIONS} are possible")
        names = [d.name for d in dimensions]
        if len(set(names)) != len(names):
            raise ConfigError(f"action dimension names must be unique, found {names}")
        if len({d.bins for d in dimensions}) != 1:
            raise ConfigError(
                f"all action dimensions need the same number of bins, found {[d.bins for d in dimensions]}"
            )
        self.dimensions: tuple[ActionDimension, ...] = tuple(dimensions)
        self.names: tuple[str, ...] = tuple(names)
        self.bins: int = dimensions[0].bins
        self.low: NDArray[np.float64] = np.array([d.low for d in dimensions], dtype=np.float64)
        self.high: NDArray[np.float64] = np.array([d.high for d in dimensions], dtype=np.float64)
        self._width = (self.high - self.low) / self.bins
        table = self.low[:, None] + (np.arange(self.bins)[None, :] + 0.5) * self._width[:, None]
        for i, d in enumerate(dimensions):
            if d.neutral is not None:
                table[i, self._bin_of(np.asarray(d.neutral), i)] = d.neutral
        self._centres: NDArray[np.float64] = table
        self._centres.setflags(write=False)

    @property
    def size(self) -> int:
        """Number of dimensions D."""
        return len(self.dimensions)

    @property
    def centres(self) -> NDArray[np.float64]:
        """Value of every bin, (D, bins) float64, SI units, read-only."""
        return self._centres

    @property
    def sha256(self) -> str:
        """Hex digest of names, units, ranges, bins, neutral values, targets and their order."""
        text = json.dumps(self.to_config(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

    def _bin_of(self, value: NDArray[Any], dimension: int | None = None) -> NDArray[np.int64]:
        low, width = (self.low, self._width) if dimension is None else (self.low[dimension], self._width[dimension])
        return np.clip(np.floor((value - low) / width), 0, self.bins - 1).astype(np.int64)

    def encode(self, values: ArrayLike) -> NDArray[np.int64]:
        """SI values (..., D) -> bins (..., D) int64 in 0..bins-1; values outside the range are clipped.

        Raises ValueError when the last axis is not D or a value is not finite (the dimension is named).
        """
        array = np.asarray(values, dtype=np.float64)
        self._check_last_axis(array)
        if not np.isfinite(array).all():
            bad = np.unique(np.argwhere(~np.isfinite(array))[:, -1])
            raise ValueError(
                f"action is not finite in {', '.join(self.names[i] for i in bad)}; refuse it at its source"
            )
        return self._bin_of(array)

    def decode(self, bins: ArrayLike) -> NDArray[np.float64]:
        """Bins (..., D) integers -> SI values (..., D) float64 (bin centres; the neutral bin gives the neutral value).

        Raises ValueError on a wrong last axis, a non-integer dtype or a bin outside 0..bins-1.
        """
        array = np.asarray(bins)
        self._check_last_axis(array)
        if not np.issubdtype(array.dtype, np.integer):
            raise ValueError(f"bins must be integers, found dtype {array.dtype}")
        if array.size and (array.min() < 0 or array.max() >= self.bins):
            raise ValueError(f"bins must be in 0..{self.bins - 1}, found {array.min()}..{array.max()}")
        return self._centres[np.arange(self.size), array]

    def neutral(self) -> NDArray[np.float64]:
        """The do-nothing action (D,) float64: the neutral value where one is declared, else the low end."""
        return np.array([d.low if d.neutral is None else d.neutral for d in self.dimensions], dtype=np.float64)

    def index(self, name: str) -> int:
        """Position of dimension ``name``; KeyError with the known names otherwise."""
        try:
            return self.names.index(name)
        except ValueError:
            raise KeyError(f"no action dimension {name!r}; this space has {', '.join(self.names)}") from None

    def as_dict(self, values: ArrayLike) -> dict[str, float]:
        """One action (D,) as {name: value}."""
        array = np.asarray(values, dtype=np.float64)
        self._check_last_axis(array)
        return {name: float(v) for name, v in zip(self.names, array.reshape(-1), strict=True)}

    def to_config(self) -> list[dict[str, Any]]:
        """Plain list of mappings, the inverse of :meth:`from_config`."""
        return [asdict(d) for d in self.dimensions]

    @classmethod
    def from_config(cls, entries: Sequence[Mapping[str, Any]], where: str = "action_space") -> ActionSpace:
        """Build from a list of mappings; unknown or missing keys raise ConfigError."""
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise ConfigError(f"{where}: expected a list of dimensions, found {type(entries).__name__}")
        return cls([build(ActionDimension, e, f"{where}[{i}]") for i, e in enumerate(entries)])

    def _check_last_axis(self, array: NDArray[Any]) -> None:
        if array.ndim == 0 or array.shape[-1] != self.size:
            raise ValueError(
                f"last axis must have {self.size} entries ({', '.join(self.names)}), found shape {array.shape}"
            )

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ActionSpace) and self.dimensions == other.dimensions

    def __hash__(self) -> int:
        return hash(self.dimensions)

    def __repr__(self) -> str:
        return f"ActionSpace({', '.join(self.names)}; {self.bins} bins, {self.sha256[:12]})"
