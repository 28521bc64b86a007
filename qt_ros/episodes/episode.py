"""One episode: what the policy saw, what it commanded, and how it went.

The same type comes out of a bag (``episodes.bag``), out of the in-process simulator (``sim.rollout``) and out of a
training store (``episodes.store``).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import NoReturn

import numpy as np

OUTCOMES = ("unknown", "success", "failure")
"""Index = the numeric value of ``EpisodeStatus.OUTCOME_*``."""

REASONS = (
    "none",
    "done",
    "terminate",
    "timeout",
    "operator",
    "canceled",
    "deactivated",
    "stale_camera",
    "stale_joints",
    "bad_image",
    "non_finite",
    "lost_policy",
    "estop",
    "limit",
    "fault",
    "preempted",
    "lost_command",
)
"""Why an episode ended; index = the numeric value of ``EpisodeStatus.REASON_*``."""

SOURCES = ("demonstration", "noise", "autonomous", "teleop")

TERMINAL_REASONS = frozenset({"done", "terminate", "timeout"})
"""Reasons that end the episodic MDP itself. All others are stops from outside: the episode is truncated there."""

_EPISODE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,199}")


class InvalidEpisode(ValueError):
    """An episode breaks its own rules (shapes, types, ranges, or outcome against rewards)."""


def reason_name(value: int) -> str:
    """Lower-case name of an ``EpisodeStatus.REASON_*`` value. Raises ValueError on an unknown value."""
    if not 0 <= value < len(REASONS):
        raise ValueError(f"unknown reason {value}: EpisodeStatus knows 0..{len(REASONS) - 1}")
    return REASONS[value]


def outcome_name(value: int) -> str:
    """Lower-case name of an ``EpisodeStatus.OUTCOME_*`` value. Raises ValueError on an unknown value."""
    if not 0 <= value < len(OUTCOMES):
        raise ValueError(f"unknown outcome {value}: EpisodeStatus knows 0..{len(OUTCOMES) - 1}")
    return OUTCOMES[value]


def is_episode_id(text: object) -> bool:
    """Whether ``text`` can name an episode: 1 to 200 of letters, digits and . _ : -, first a letter or digit.

    So it can name a folder too, and never leads out of one.
    """
    return isinstance(text, str) and _EPISODE_ID.fullmatch(text) is not None


def is_terminal(outcome: str, reason: str) -> bool:
    """Whether the MDP ended at the last step, so that no value is bootstrapped past it.

    Success ends it whatever the reason. Terminate, done and time-out end it: in the method's episodic MDP a time-out
    is a terminal failure with reward 0. A stop from outside (operator, e-stop, fault, stale sensor...) truncates: what
    would have followed is unknown.
    """
    return outcome == "success" or reason in TERMINAL_REASONS


@dataclass
class Episode:
    """One episode of T >= 1 policy steps; row t of every array belongs to the same policy decision."""

    episode_id: str
    instruction: str
    task: str
    images: np.ndarray
    """(T, H, W, 3) uint8 RGB, at policy size: what the policy saw at step t."""
    proprio: np.ndarray
    """(T, P) float32 from the contract's Proprioception; P may be 0."""
    actions: np.ndarray
    """(T, D) float32, commanded, SI units of the action space."""
    bins: np.ndarray
    """(T, D) int16: the bins of ``actions``."""
    rewards: np.ndarray
    """(T,) float32 in [0, 1]; success gives 1 at the last step."""
    terminated: bool
    """True: the MDP ended at the last step. False: truncated; the last step has no next observation."""
    outcome: str
    reason: str
    source: str
    seed: int | None
    stamps: np.ndarray
    """(T,) float64 s: observation time of each step, strictly increasing."""
    contract_sha256: str
    action_space_sha256: str
    checkpoint: str = ""
    q_values: np.ndarray | None = None
    """(T, D) float32: Q of the chosen bin per dimension, when a policy acted."""
    keypoints: np.ndarray | None = None
    """(T, 2, 3) float32, simulator only: [target, tool] x (u, v as image fractions, visible 0/1).

    A training aid; never policy input."""
    privileged: np.ndarray | None = None
    """(T, S) float32, simulator only: the state behind the image, for experiments that take seeing out of a method.

    Named by the store's manifest; never known to a robot."""

    def __len__(self) -> int:
        return len(self.images)

    def validate(self) -> None:
        """Check all rules; raises InvalidEpisode naming the episode, the field and what was found."""
        if not is_episode_id(self.episode_id):
            raise InvalidEpisode(
                f"episode_id {self.episode_id!r}: use 1 to 200 of letters, digits and . _ : - (first a letter or digit)"
            )
        self._check_words()
        steps = self._check_images()
        self._check_array("proprio", self.proprio, (steps, None), np.float32)
        self._check_array("actions", self.actions, (steps, None), np.float32)
        dims = self.actions.shape[1]
        self._check_array("bins", self.bins, (steps, dims), np.int16)
        self._check_array("rewards", self.rewards, (steps,), np.float32)
        self._check_array("stamps", self.stamps, (steps,), np.float64)
        if self.q_values is not None:
            self._check_array("q_values", self.q_values, (steps, dims), np.float32)
        if self.keypoints is not None:
            self._check_array("keypoints", self.keypoints, (steps, 2, 3), np.float32)
        if self.privileged is not None:
            self._check_array("privileged", self.privileged, (steps, None), np.float32)
        if self.bins.min() < 0:
            self._refuse("bins", f"negative bin {self.bins.min()}")
        if self.rewards.min() < 0 or self.rewards.max() > 1:
            self._refuse("rewards", f"outside [0, 1]: {self.rewards.min()} .. {self.rewards.max()}")
        if steps > 1 and not (np.diff(self.stamps) > 0).all():
            step = int(np.argmin(np.diff(self.stamps))) + 1
            self._refuse("stamps", f"not strictly increasing: step {step} is at {self.stamps[step]} s")
        if self.outcome == "success" and not (self.terminated and self.rewards[-1] > 0):
            self._refuse("outcome", "'success' needs terminated=True and a positive last reward")
        if self.outcome == "failure" and self.rewards[-1] >= 1:
            self._refuse("outcome", "'failure' with reward 1 at the last step")

    def _check_words(self) -> None:
        for field, known in (("outcome", OUTCOMES), ("reason", REASONS), ("source", SOURCES)):
            if getattr(self, field) not in known:
                self._refuse(field, f"{getattr(self, field)!r}; use one of {', '.join(known)}")
        for field in ("instruction", "task", "contract_sha256", "action_space_sha256", "checkpoint"):
            if not isinstance(getattr(self, field), str):
                self._refuse(field, f"a string is needed, got {type(getattr(self, field)).__name__}")
        if self.seed is not None and not -(2**63) <= self.seed < 2**63:
            self._refuse("seed", f"{self.seed} does not fit 64 bits")

    def _check_images(self) -> int:
        images = self.images
        if not isinstance(images, np.ndarray) or images.ndim != 4 or images.shape[3] != 3 or images.dtype != np.uint8:
            found = f"{images.dtype} {images.shape}" if isinstance(images, np.ndarray) else type(images).__name__
            self._refuse("images", f"(T, H, W, 3) uint8 is needed, got {found}")
        if 0 in images.shape:
            self._refuse("images", f"empty: {images.shape}; an episode has at least one step")
        return len(images)

    def _check_array(self, field: str, array: object, shape: tuple[int | None, ...], dtype: type) -> None:
        wanted = f"{np.dtype(dtype)} {tuple('any' if n is None else n for n in shape)}"
        if not isinstance(array, np.ndarray):
            self._refuse(field, f"{wanted} is needed, got {type(array).__name__}")
        if (
            array.dtype != dtype
            or array.ndim != len(shape)
            or any(n is not None and n != have for n, have in zip(shape, array.shape, strict=True))
        ):
            self._refuse(field, f"{wanted} is needed, got {array.dtype} {array.shape}")
        if np.issubdtype(array.dtype, np.floating) and not np.isfinite(array).all():
            step = int(np.argwhere(~np.isfinite(array))[0][0])
            self._refuse(field, f"not finite at step {step}")

    def _refuse(self, field: str, problem: str) -> NoReturn:
        raise InvalidEpisode(f"episode {self.episode_id}: {field}: {problem}")
