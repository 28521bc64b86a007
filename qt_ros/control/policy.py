"""A loaded checkpoint that acts: image and joint positions in, one discretised action out, by the method it names.

Each image is encoded once. The tokens of the last frames stay in a ring buffer, so the expensive part of a step costs
the same for any history length. An instruction is embedded once per `reset`; decoding is greedy and deterministic.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from qt_ros.contract.observations import Proprioception, resize_rgb
from qt_ros.contract.robot import RobotContract
from qt_ros.control.limits import NonFiniteError
from qt_ros.model.acting import Network, act
from qt_ros.model.checkpoint import CheckpointInfo, load_checkpoint, read_info
from qt_ros.model.language import TextEncoder
from qt_ros.model.tensor_files import CheckpointError

TERMINATE_THRESHOLD = 0.5
WARM_UP_STEPS = 3
WARM_UP_INSTRUCTION = "pick up the object"


class NotAPolicyError(CheckpointError):
    """The checkpoint is sound, but its Q-function was never trained."""


@dataclass(frozen=True)
class Decision:
    """One action. D dimensions in the order of the action space.

    ``values`` (D,) float64 SI per policy step; ``bins`` (D,) int64 chosen bins; ``q`` (D,) float32 their Q;
    ``q_all`` (D, bins) float32 Q of every bin along the chosen prefix; ``value`` the largest Q of the first dimension.
    A method that learns a policy has its probabilities there; one that searches over continuous actions (QT-Opt) has
    the Q of the whole action in every entry of ``q`` and no ``q_all`` (None).
    ``terminate`` True when the policy ends the episode with this step (nothing of the action is then executed);
    ``timings_ms`` milliseconds of each part of the step: prepare, encode, decode, total.
    """

    values: NDArray[np.float64]
    bins: NDArray[np.int64]
    q: NDArray[np.float32]
    q_all: NDArray[np.float32] | None
    value: float
    terminate: bool
    timings_ms: dict[str, float] = field(default_factory=dict)


def gpu_memory(device: str) -> dict[str, float]:
    """MiB on the GPU ``device`` ('cuda', 'cuda:1'): used by this process's tensors, its peak, and free for anybody."""
    free, total = torch.cuda.mem_get_info(device)
    return {
        "gpu_memory_used_mib": torch.cuda.memory_allocated(device) / 2**20,
        "gpu_memory_peak_mib": torch.cuda.max_memory_allocated(device) / 2**20,
        "gpu_memory_free_mib": free / 2**20,
        "gpu_memory_total_mib": total / 2**20,
    }


class Policy:
    """One robot's policy. `reset` with an instruction, then `step` once per policy period; not thread-safe.

    ``frames_encoded`` counts the images that went through the vision network since loading (one per step), warm-up
    left out. ``info`` is what the checkpoint says about itself; its id stands in every published action.
    """

    def __init__(
        self,
        model: Network,
        info: CheckpointInfo,
        contract: RobotContract,
        text_encoder: TextEncoder,
        device: str | torch.device = "cpu",
    ) -> None:
        self.model, self.info, self.contract = model, info, contract
        self.device = torch.device(device)
        self.space = contract.action_space
        self._text_encoder = text_encoder
        self._terminate = self.space.names.index("terminate") if "terminate" in self.space.names else -1
        config = model.config
        self._proprioception = Proprioception(contract) if config.proprio_size else None
        w, k = config.history, config.tokens_per_frame
        self._tokens = torch.zeros(1, w, k, config.width, device=self.device)
        self._states = torch.zeros(1, w, config.proprio_size, device=self.device)
        self._filled = 0  # frames in the window, at most w
        self._text: torch.Tensor | None = None
        self.instruction = ""
        self.frames_encoded = 0

    @classmethod
    def load(
        cls,
        checkpoint: str | Path,
        contract: RobotContract,
        device: str = "cpu",
        *,
        threads: int | None = None,
        text_encoder: TextEncoder | None = None,
        warm_up: bool = True,
        privileged: bool = False,
    ) -> Policy:
        """Load a checkpoint folder strictly and warm up, so that the first real step is as fast as any other.

        CheckpointError when the folder is damaged or was trained for another action space than ``contract`` has, and
        NotAPolicyError, one of its kind, when it comes from `qt-ros pretrain`, which trains the vision side only;
        ValueError when ``device`` ('cpu', 'cuda', 'cuda:1') is not there. ``threads``: CPU threads of torch in this
        whole process (None: leave as it is). ``privileged``: the caller can give the simulator's privileged state to
        `step`; without it a checkpoint that acts on that state is refused with ValueError, as it can drive no robot.
        """
        if threads is not None:
            if threads < 1:
                raise ValueError(f"threads must be at least 1, got {threads}")
            torch.set_num_threads(threads)
        if torch.device(device).type == "cuda" and not torch.cuda.is_available():
            raise ValueError(f"device {device!r}: torch {torch.__version__} sees no CUDA GPU; use 'cpu'")
        if read_info(checkpoint).provenance.get("kind") == "pointing":
            raise NotAPolicyError(
                f"{checkpoint}: only its vision was warmed up, it is no policy yet; train it with "
                f"`qt-ros train --init {checkpoint}` and use the checkpoint which that makes"
            )
        model, info = load_checkpoint(checkpoint, contract=contract, device=device)
        if info.config.vision == "state" and not privileged:
            raise ValueError(
                f"{checkpoint}: this policy acts on the simulator's privileged state, which no robot can give it; "
                "it is for `qt-ros evaluate` only. Use one that was trained on images"
            )
        policy = cls(model, info, contract, text_encoder or TextEncoder(info.text_encoder), device)
        if warm_up:
            policy.warm_up()
        return policy

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels that the model sees; `step` resizes to it."""
        return self.model.config.image_height, self.model.config.image_width

    def warm_up(self) -> None:
        """A few steps on a grey picture in the home pose; counters and history are left as after loading."""
        self.reset(WARM_UP_INSTRUCTION)
        image = np.full((*self.image_size, 3), 128, dtype=np.uint8)
        state = np.zeros(self.model.config.state_size, np.float32) if self.model.config.state_size else None
        for _ in range(WARM_UP_STEPS):
            self.step(image, self.contract.kinematics.home, state)
        self._filled, self._text, self.instruction, self.frames_encoded = 0, None, "", 0

    def reset(self, instruction: str) -> None:
        """Begin an episode: empty history, ``instruction`` embedded (the encoder caches). ValueError when empty."""
        self._text = self._text_encoder.encode([instruction]).to(self.device)
        self.instruction = instruction
        self._filled = 0

    def step(
        self,
        image: NDArray[np.uint8],
        joint_positions: Mapping[str, float],
        privileged: NDArray[np.float32] | None = None,
    ) -> Decision:
        """Decide one action from ``image`` (H, W, 3) uint8 RGB of any size and joint positions (rad or m).

        ``privileged`` (S,) float32 takes the image's place in a model with vision 'state', and only there. Encodes
        exactly one frame. RuntimeError before `reset`; ValueError for an image of another type or shape, a
        missing joint, or a joint that is NaN; `NonFiniteError` when the network yields a Q-value that is not finite.
        After an error the history is as before the step.
        """
        return step_together([self], [(image, joint_positions, privileged)])[0]

    def beside(self) -> Policy:
        """Another policy of the same network, with a history and an instruction of its own; see `step_together`."""
        return Policy(self.model, self.info, self.contract, self._text_encoder, self.device)

    def _frame(self, image: NDArray[np.uint8], privileged: NDArray[np.float32] | None) -> torch.Tensor:
        """What the network takes for a frame: the resized image (1, 3, H, W) uint8, or the state (1, S) float32."""
        size = self.model.config.state_size
        if not size:
            if privileged is not None:
                raise ValueError("privileged state given to a policy that acts on images; leave it out")
            return torch.from_numpy(resize_rgb(image, *self.image_size)).permute(2, 0, 1)[None].to(self.device)
        if privileged is None or privileged.shape != (size,) or not np.isfinite(privileged).all():
            found = None if privileged is None else privileged.tolist()
            raise ValueError(f"this policy acts on a privileged state of {size} finite numbers, got {found}")
        return torch.from_numpy(privileged.astype(np.float32))[None].to(self.device)

    def _proprio(self, joint_positions: Mapping[str, float]) -> torch.Tensor | None:
        if self._proprioception is None:
            return None
        return torch.from_numpy(self._proprioception.encode(joint_positions)).to(self.device)

    def _window(
        self, frame: torch.Tensor, state: torch.Tensor | None
    ) -> tuple[torch.Tensor, torch.Tensor | None, torch.Tensor]:
        """The history with the new frame in its last slot: tokens (1, w, K, width), states (1, w, P), mask (1, w)."""
        history = self.model.config.history
        tokens = torch.roll(self._tokens, -1, dims=1)
        tokens[0, -1] = frame
        states = None
        if state is not None:
            states = torch.roll(self._states, -1, dims=1)
            states[0, -1] = state
        filled = min(self._filled + 1, history)
        mask = torch.zeros(1, history, dtype=torch.bool, device=self.device)
        mask[0, history - filled :] = True
        return tokens, states, mask

    def _take(
        self,
        window: tuple[torch.Tensor, torch.Tensor | None, torch.Tensor],
        bins: NDArray[np.int64],
        q: NDArray[np.float32],
        table: NDArray[np.float32] | None,
        timings_ms: dict[str, float],
    ) -> Decision:
        """The step has succeeded: keep its window, and say what was decided."""
        tokens, states, mask = window
        self._tokens, self._filled = tokens, int(mask.sum())
        self._states = self._states if states is None else states
        values = self.space.decode(bins)
        return Decision(
            values=values,
            bins=bins,
            q=q,
            q_all=table,
            value=float((q[:1] if table is None else table[0]).max()),
            terminate=self._terminate >= 0 and bool(values[self._terminate] >= TERMINATE_THRESHOLD),
            timings_ms=dict(timings_ms),
        )


@torch.inference_mode()
def step_together(
    policies: Sequence[Policy],
    observations: Sequence[tuple[NDArray[np.uint8], Mapping[str, float], NDArray[np.float32] | None]],
    size: int | None = None,
) -> list[Decision]:
    """A step of each of several policies of one network (see `Policy.beside`), which costs little more than one.

    observations: the arguments of each `Policy.step`; errors as there, and then all histories are as before.
    ``size``: compute as many rows as that whatever the number of policies, so that rounding, which depends on the size
    of a batch, is the same each time. ValueError for policies of different networks, or more of them than ``size``.
    """
    first, rows = policies[0], len(policies) if size is None else size
    if any(policy.model is not first.model for policy in policies) or rows < len(policies):
        raise ValueError(f"{len(policies)} policies cannot take {rows} steps together: one network, enough rows")
    for policy in policies:
        if policy._text is None:
            raise RuntimeError("the policy has no instruction yet; call reset first")
    start = time.perf_counter()
    pixels = [p._frame(image, privileged) for p, (image, _, privileged) in zip(policies, observations, strict=True)]
    states = [p._proprio(joints) for p, (_, joints, _) in zip(policies, observations, strict=True)]
    prepared = time.perf_counter()
    frames = first.model.encode_frames(_rows(pixels, rows), _rows([p._text for p in policies], rows))
    for policy in policies:
        policy.frames_encoded += 1
    encoded = time.perf_counter()
    windows = [p._window(f.float(), state) for p, f, state in zip(policies, frames, states, strict=False)]
    tokens, mask = _rows([w[0] for w in windows], rows), _rows([w[2] for w in windows], rows)
    known = None if windows[0][1] is None else _rows([w[1] for w in windows], rows)
    choice = act(first.model, first.info.acting, tokens, known, mask)
    all_bins, all_q = choice.bins.cpu().numpy(), choice.q.cpu().numpy()
    tables = all_q[..., None] if choice.table is None else choice.table.cpu().numpy()
    for row in range(len(policies)):
        if not np.isfinite(tables[row]).all():
            bad = [n for n, q in zip(first.space.names, tables[row]) if not np.isfinite(q).all()]
            raise NonFiniteError(
                f"Q-values of {', '.join(bad)} are not finite; the checkpoint {first.info.id[:12]} is unusable"
            )
    done = time.perf_counter()
    marks = {"prepare": prepared - start, "encode": encoded - prepared, "decode": done - encoded, "total": done - start}
    timings = {name: seconds * 1e3 for name, seconds in marks.items()}
    return [
        policy._take(window, all_bins[row], all_q[row], None if choice.table is None else tables[row], timings)
        for row, (policy, window) in enumerate(zip(policies, windows, strict=True))
    ]


def _rows(parts: Sequence[torch.Tensor | None], rows: int) -> torch.Tensor:
    """Parts (1, ...) as one batch of ``rows``, the first part again and again in those that nobody reads."""
    filled = [part for part in parts if part is not None]
    return filled[0] if rows == 1 else torch.cat(filled + [filled[0]] * (rows - len(filled)))
