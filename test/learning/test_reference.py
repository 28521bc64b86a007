"""Every method's loss on random episodes against a slow reference that walks them step by step with plain loops.

The reference cuts its windows out of the episodes by hand, runs the networks on one window at a time, and follows the
definitions in the methods' docstrings. Episodes end terminated or cut off; segments run over their ends; n-step backups
cross them; histories reach back before their starts.
"""

from __future__ import annotations

import math
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tiny import BINS, DIMS, tiny_config, tiny_data, tiny_model, tiny_text

from qt_ros.learning.dataset import TrainingData
from qt_ros.learning.hl_gauss import gaussian_mass
from qt_ros.learning.losses import LossConfig
from qt_ros.learning.options import AwOptOptions, QtOptOptions
from qt_ros.learning.targets import Backup
from qt_ros.learning.trainer import Trainer
from qt_ros.model.critics import unit_from_bins

GAMMA = 0.9


class Reference:
    """Steps of one episode as the networks see them, one at a time."""

    def __init__(self, trainer: Trainer) -> None:
        self.trainer, self.data, self.config = trainer, trainer.data, trainer.config
        self.method = trainer.method
        episode = np.repeat(np.arange(len(self.data.lengths)), self.data.lengths)
        self.first = [int(np.flatnonzero(episode == e)[0]) for e in episode]
        self.last = [int(np.flatnonzero(episode == e)[-1]) for e in episode]

    def window(self, step: int, network: torch.nn.Module) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The history at a step, built frame by frame; unfilled slots hold nonsense."""
        w, shape = self.trainer.model.config.history, self.trainer.model.config
        tokens = torch.full((1, w, shape.tokens_per_frame, shape.width), 1e3)
        proprio, mask = torch.full((1, w, shape.proprio_size), -1e3), torch.zeros(1, w, dtype=torch.bool)
        for slot in range(w):
            frame = step - (w - 1) + slot
            if frame < self.first[step]:
                continue
            image = torch.from_numpy(self.data.images[frame]).permute(2, 0, 1)[None]
            text = self.trainer.batches.text[int(self.data.text[frame])][None]
            tokens[0, slot] = network.encode_frames(image, text)[0]
            proprio[0, slot] = torch.from_numpy(self.data.proprio[frame])
            mask[0, slot] = True
        return tokens, proprio, mask

    def taken(self, step: int) -> torch.Tensor:
        return torch.from_numpy(self.data.bins[step])[None]

    def reward_to_go(self, step: int) -> float:
        """Discounted return from a step to the end of its episode."""
        return sum(GAMMA**k * float(self.data.rewards[step + k]) for k in range(self.last[step] - step + 1))

    def values(self, step: int) -> torch.Tensor:
        """max over bins of the lagged model's value, per dimension."""
        model = self.method.lagged_model
        tokens, proprio, mask = self.window(step, model)
        return model.value(model.q_logits(tokens, self.taken(step), proprio, mask))[0].amax(-1).clamp(0, 1)

    def decision_target(self, step: int, dim: int) -> float | None:
        """Backup of one decision, walked along the chain of decisions; None where it has none."""
        backup, total, discount, moves, here = self.config.backup, 0.0, 1.0, 0, step
        while moves < backup.n_step or (backup.to_next_step and dim != 0):
            moves, dim = moves + 1, dim + 1
            if dim == DIMS:
                total += discount * float(self.data.rewards[here])
                discount *= GAMMA
                if here == self.last[step]:
                    return min(total, 1.0) if self.data.terminated[here] else None
                here, dim = here + 1, 0
        value = float(self.values(here)[dim])
        return min(total + discount * (max(value, self.reward_to_go(here)) if backup.monte_carlo else value), 1.0)

    def action_target(self, step: int, value) -> float | None:  # type: ignore[no-untyped-def]
        """Backup with one decision per environment step."""
        backup, total, here = self.config.backup, 0.0, step
        for k in range(backup.n_step):
            total += GAMMA**k * float(self.data.rewards[here])
            if here == self.last[step]:
                return min(total, 1.0) if self.data.terminated[here] else None
            here += 1
        bootstrap = min(max(value(here), 0.0), 1.0)
        if backup.monte_carlo:
            bootstrap = max(bootstrap, self.reward_to_go(here))
        return min(total + GAMMA**backup.n_step * bootstrap, 1.0)


def segment_steps(trainer: Trainer) -> list[int]:
    """The steps to learn from of batch 0: those of each segment that lie inside its episode."""
    batch, w = trainer.batches.at(0), trainer.model.config.history
    found = []
    for frames, mask in zip(batch.segments.frames, batch.segments.frame_mask, strict=True):
        for k in range(trainer.config.segment_steps):
            if mask[w - 1 + k]:
                found.append(int(frames[w - 1 + k]))
    return found


def mean(values: list[float]) -> float:
    return sum(values) / max(1, len(values))


def slow_q_transformer(r: Reference, steps: list[int]) -> dict[str, float]:
    loss, method = r.config.loss, r.method
    td, down = [], []
    for step in steps:
        tokens, proprio, mask = r.window(step, method.model)
        outputs = method.model.q_logits(tokens, r.taken(step), proprio, mask)[0]
        for i in range(DIMS):
            target = r.decision_target(step, i)
            if target is None:
                continue
            a, per_bin = int(r.data.bins[step, i]), []
            for b in range(BINS):
                aim = target if b == a else 0.0
                if method.model.histogram is not None:
                    mass = gaussian_mass(torch.tensor(aim), method.model.histogram.atoms, loss.sigma)
                    log_p = torch.log_softmax(method.model.histogram.logits(outputs[i, b]), -1)
                    per_bin.append(-float((mass * log_p).sum()))
                    continue
                q = 1 / (1 + math.exp(-float(outputs[i, b])))
                if loss.td == "mse":
                    per_bin.append(0.5 * (q - aim) ** 2)
                else:
                    per_bin.append(-aim * math.log(q) - (1 - aim) * math.log(1 - q))
            td.append(per_bin[a])
            down.append(mean([x for b, x in enumerate(per_bin) if b != a]))
    return {"td": mean(td), "conservative": mean(down), "loss": mean(td) + loss.alpha * mean(down)}


def slow_cql(r: Reference, steps: list[int]) -> dict[str, float]:
    td, down = [], []
    for step in steps:
        tokens, proprio, mask = r.window(step, r.method.model)
        q = r.method.model.q_logits(tokens, r.taken(step), proprio, mask)[0].tolist()
        for i in range(DIMS):
            target = r.decision_target(step, i)
            if target is not None:
                taken = q[i][int(r.data.bins[step, i])]
                td.append(0.5 * (taken - target) ** 2)
                down.append(math.log(sum(math.exp(x) for x in q[i])) - taken)
    return {"td": mean(td), "loss": mean(td) + r.config.options.alpha * mean(down)}


def log_pi(r: Reference, step: int, success: bool | None = None) -> list[float]:
    """log pi of the bins taken, per dimension."""
    tokens, proprio, mask = r.window(step, r.method.model)
    returns = None if success is None else torch.full(mask.shape, int(success))
    logits = r.method.model.q_logits(tokens, r.taken(step), proprio, mask, returns)[0].tolist()
    bins = r.data.bins[step]
    return [logits[i][bins[i]] - math.log(sum(math.exp(x) for x in logits[i])) for i in range(DIMS)]


def succeeded(data: TrainingData, step: int) -> bool:
    return bool(data.success.repeat(data.lengths)[step])


def slow_cloning(r: Reference, steps: list[int]) -> dict[str, float]:
    told = r.config.method == "decision_transformer"
    if not told:
        assert all(succeeded(r.data, s) for s in steps)
    every = [x for s in steps for x in log_pi(r, s, succeeded(r.data, s) if told else None)]
    return {"loss": -mean(every)}


def slow_iql(r: Reference, steps: list[int]) -> dict[str, float]:
    method, options = r.method, r.config.options
    critic, lagged = method.critic, method.lagged["critic"]

    def v(step: int) -> float:
        tokens, proprio, mask = r.window(step, method.model)
        return float(critic(tokens, r.taken(step), proprio, mask)[0])

    td, value, policy = [], [], []
    for step in steps:
        tokens, proprio, mask = r.window(step, method.model)
        own_v, q = (float(x) for x in critic(tokens, r.taken(step), proprio, mask))
        tokens, proprio, mask = r.window(step, method.lagged_model)
        lagged_q = float(lagged(tokens, r.taken(step), proprio, mask)[1])
        target = r.action_target(step, v)
        if target is not None:
            td.append(0.5 * (q - target) ** 2)
        u = lagged_q - own_v
        value.append((options.expectile if u >= 0 else 1 - options.expectile) * u**2)
        policy.append(-min(math.exp(options.beta * u), options.weight_clip) * mean(log_pi(r, step)))
    return {
        "td": mean(td), "value_loss": mean(value), "policy_loss": mean(policy),
        "loss": mean(td) + mean(value) + mean(policy),
    }  # fmt: skip


def slow_search(r: Reference, steps: list[int]) -> dict[str, float]:
    """QT-Opt and AW-Opt. The search is exhausted beforehand: its one candidate is given (see `no_search`)."""
    method, actor = r.method, r.config.method == "aw_opt"

    def q(critic: torch.nn.Module, seen: tuple[torch.Tensor, ...], bins: torch.Tensor) -> float:
        logit = critic.q_logits(critic.observe(*seen), unit_from_bins(bins, BINS)[:, None])
        return float(logit)

    def value(step: int) -> float:
        seen = r.window(step, method.lagged_model)
        best = method.lagged_model.decode(*seen)[0] if actor else torch.tensor([[2, 2]])
        return 1 / (1 + math.exp(-min(q(c, seen, best) for c in (method.lagged_critic, method.second))))

    td, policy = [], []
    for step in steps:
        seen = r.window(step, method.model)
        target = r.action_target(step, value)
        if target is not None:
            p = 1 / (1 + math.exp(-q(method.critic, seen, r.taken(step))))
            td.append(-target * math.log(p) - (1 - target) * math.log(1 - p))
        if actor and succeeded(r.data, step):
            seen = r.window(step, method.lagged_model)
            own = method.lagged_model.decode(*seen)[0]
            gains = [1 / (1 + math.exp(-q(method.lagged_critic, seen, b))) for b in (r.taken(step), own)]
            weight = min(math.exp(r.config.options.beta * (gains[0] - gains[1])), r.config.options.weight_clip)
            policy.append(-weight * mean(log_pi(r, step)))
    terms = {"td": mean(td), "loss": mean(td) + mean(policy)}
    return terms | ({"policy_loss": mean(policy)} if actor else {})


SLOW = {
    "q_transformer": slow_q_transformer, "mse": slow_q_transformer, "hl_gauss": slow_q_transformer, "cql": slow_cql,
    "rt1_bc": slow_cloning, "decision_transformer": slow_cloning, "iql": slow_iql, "qt_opt": slow_search,
    "aw_opt": slow_search,
}  # fmt: skip


def no_search(trainer: Trainer) -> None:
    """Let CEM end at a known candidate, so that the rest of the loss can be compared: the actor's, or bins (2, 2)."""
    method = trainer.method
    if trainer.config.method == "qt_opt":
        fixed = unit_from_bins(torch.tensor([[2, 2]]), BINS)
        method.proposals = lambda window: fixed[:, None].expand(len(window.tokens), 1, -1)

    # Drawn candidates lose against the proposal because their score is lowered outside of it.
    def biased(observed, actions):  # type: ignore[no-untyped-def]
        logits = plain(observed, actions)
        proposal = actions[:, :1]
        far = (actions - proposal).abs().sum(-1) > 1e-6
        return torch.where(far & (actions.shape[1] > 2), logits - 1e3, logits)

    critic = method.lagged_critic
    plain = critic.q_logits
    critic.q_logits = biased


@pytest.mark.parametrize("name", SLOW)
@settings(max_examples=8, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 10**6),
    history=st.integers(1, 3),
    segment=st.integers(1, 3),
    n_step=st.integers(1, 4),
    to_next=st.booleans(),
    monte_carlo=st.booleans(),
)
def test_the_loss_of_a_batch_is_what_loops_over_its_steps_give(
    name: str, seed: int, history: int, segment: int, n_step: int, to_next: bool, monte_carlo: bool
) -> None:
    method = "q_transformer" if name == "mse" else name
    rng = np.random.default_rng(seed)
    data = tiny_data(6, seed)
    ends = np.cumsum(data.lengths)
    for start, end in zip(ends - data.lengths, ends, strict=True):
        if rng.random() < 0.3:
            data.terminated[start:end] = False
        data.rewards[start : end - 1] += (0.1 * rng.random(end - start - 1)).astype(np.float32)
        for t in range(end - 1, start - 1, -1):
            data.returns[t] = data.rewards[t] + (GAMMA * data.returns[t + 1] if t + 1 < end else 0.0)
    data.bins[:] = rng.integers(0, BINS, data.bins.shape)
    fields: dict[str, object] = {"batch": 4, "segment_steps": segment, "seed": seed}
    if method not in ("rt1_bc", "decision_transformer"):
        walk = to_next and method not in ("iql", "qt_opt", "aw_opt")
        fields["backup"] = Backup(GAMMA, min(n_step, 2) if walk else n_step, walk, monte_carlo)
    if name == "mse":
        fields["loss"] = LossConfig("mse", 3.0)
    if method in ("qt_opt", "aw_opt"):
        fields["options"] = (QtOptOptions if method == "qt_opt" else AwOptOptions)(iterations=1, samples=4, elites=2)
    torch.manual_seed(seed)
    model = tiny_model(seed % 1000, method, history=history)
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(model, data, tiny_text(), tiny_config(method, **fields), Path(folder))
    with torch.no_grad():  # so that lagged and online differ and nothing is zero
        for module in trainer.method.state().values():
            for parameter in module.parameters():
                parameter.add_(0.2 * torch.randn_like(parameter))
    if method in ("qt_opt", "aw_opt"):
        no_search(trainer)
    with torch.no_grad():
        found = trainer.losses(0)
        expected = SLOW[name](Reference(trainer), segment_steps(trainer))
    for key, value in expected.items():
        assert float(found[key]) == pytest.approx(value, rel=2e-3, abs=2e-4), key
