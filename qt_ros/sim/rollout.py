"""One episode in one process: the same policy, shaper and servo as the nodes, around the same world, without DDS."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.actions import ActionSpace
from qt_ros.contract.observations import Proprioception, resize_rgb
from qt_ros.contract.robot import RobotContract
from qt_ros.contract.strict import ConfigError
from qt_ros.control.servo import Servo
from qt_ros.control.shaper import CommandShaper
from qt_ros.episodes.episode import Episode, is_terminal
from qt_ros.sim.privileged import key_point, privileged_state, skill_state
from qt_ros.sim.tasks import Scorer, Task
from qt_ros.sim.world import SceneSpec, World

MAX_STEPS = 60  # policy steps: 12 s
LATENCY = (0.03, 0.10)  # s from image to action, as measured in the node graph
_EPSILON = 1e-6  # s: less than any physics step
SERVO_HORIZON = 2.0  # command periods: the arm controller heads for each setpoint that long, as servo_node asks it to

Seen = tuple[NDArray[np.uint8], Mapping[str, float]]
"""Image (H, W, 3) uint8 at policy size, joint positions by name."""
Actor = Callable[[NDArray[np.uint8], Mapping[str, float]], Any]
"""(image (H, W, 3) uint8 at policy size, joint positions) -> action (D,) in SI, or a Decision (``values``, ``q``)."""


@dataclass
class _Steps:
    """What is recorded of every policy step, as lists until the episode is over."""

    images: list[NDArray[np.uint8]] = field(default_factory=list)
    proprio: list[NDArray[np.float32]] = field(default_factory=list)
    actions: list[NDArray[np.float64]] = field(default_factory=list)
    q: list[NDArray[Any] | None] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    keypoints: list[list[tuple[float, float, bool]]] = field(default_factory=list)
    privileged: list[NDArray[np.float32]] = field(default_factory=list)


class Rollout:
    """Runs episodes in one ``world``; keeps the parts that are slow to build. One thread only.

    ``image_size`` is (height, width) of what the actor sees and the episode keeps: the contract's camera picture, at
    its full size and then resized, as the policy node does it. ``render=False``: black pictures, for an actor that does
    not look at them; such episodes are not for keeping. ``skills``: the privileged state that episodes keep is that of
    SKILL_STATE_NAMES, not only that of PRIVILEGED_NAMES.
    """

    def __init__(
        self,
        world: World,
        contract: RobotContract,
        image_size: tuple[int, int] = (96, 128),
        render: bool = True,
        skills: bool = False,
    ) -> None:
        self.world, self.contract, self.image_size, self.render = world, contract, image_size, render
        self.skills = skills
        self.camera = contract.observation("image")
        self.space: ActionSpace = contract.action_space
        self.shaper, self.servo = CommandShaper(contract), Servo(contract)
        self.proprioception = Proprioception(contract)
        self._reported = (*self.proprioception.joints, *self.proprioception.optional_joints)
        self._desired: NDArray[np.float64] = np.zeros(0)  # what the arm controller aims at now, (n,) rad
        self._joints: dict[str, float] = {}  # joint state that goes with the next picture
        self._joint_lag = 0.0  # s it is older than the picture
        self._terminate = self.space.names.index("terminate") if "terminate" in self.space.names else -1
        self._tick = 1.0 / contract.command_rate
        self._ticks = round(contract.command_rate / contract.policy_rate)
        if abs(self._ticks * self._tick - contract.policy_period) > 1e-9:
            rates = f"command_rate {contract.command_rate} Hz and policy_rate {contract.policy_rate} Hz"
            raise ConfigError(f"{rates}: the first must be a multiple of the second")

    def observe(self) -> NDArray[np.uint8]:
        """The head camera's picture now, (H, W, 3) uint8 at policy size."""
        if not self.render:
            return np.zeros((*self.image_size, 3), np.uint8)
        return resize_rgb(self.world.render(self.camera.width, self.camera.height), *self.image_size)

    def run(self, task: Task, scene: SceneSpec, actor: Actor, **settings: Any) -> Episode:
        """One episode in which ``actor`` is asked at every step; the rest as `steps`."""
        steps = self.steps(task, scene, **settings)
        asked: Any = None
        while True:
            try:
                image, joints = steps.send(asked)
            except StopIteration as end:
                episode: Episode = end.value
                return episode
            asked = actor(image, joints)

    def steps(
        self,
        task: Task,
        scene: SceneSpec,
        *,
        max_steps: int = MAX_STEPS,
        latency: tuple[float, float] = LATENCY,
        rng: np.random.Generator | None = None,
        reset: bool = True,
        episode_id: str = "",
        source: str = "autonomous",
        instruction: str | None = None,
        checkpoint: str = "",
    ) -> Generator[Seen, Any, Episode]:
        """One episode of ``task`` in ``scene``, scored at its end by ground truth; pauses when it needs an action.

        Yields what an `Actor` sees and is sent what an `Actor` gives; returns the episode. It asks every policy period;
        the action takes effect after a delay drawn uniformly from ``latency`` s by ``rng`` (default: the scene's seed).
        A picture goes with the newest joint state of a stream at the contract's rate, as live: less than one of its
        periods older, by a lag drawn once per episode. ``terminate`` >= 0.5 ends the episode when that action arrives,
        before the rest of it is executed; after ``max_steps`` steps it is a time-out. A stop of the shaper ends it with
        its reason. ``reset=False``: the caller has reset the world to ``scene``. ``instruction`` (default the scene's)
        is only recorded: the caller tells the actor. Raises ValueError when it is sent something that is no action.
        """
        if max_steps < 1 or not 0.0 <= latency[0] <= latency[1] < self.contract.policy_period:
            raise ValueError(f"need max_steps >= 1 and 0 <= latency low <= high < {self.contract.policy_period} s")
        rng = rng if rng is not None else np.random.default_rng([scene.seed, 7])
        if reset:
            self.world.reset(scene)
        episode_id = episode_id or f"{source}-{scene.seed:07d}"
        self.shaper.start(episode_id, self.world.time)
        self.servo.reset(self.world.joint_positions())
        self._desired = self.servo.positions
        steps, reason = _Steps(), "timeout"
        self._joint_lag = self._draw_joint_lag(rng)
        self._joints = self._joint_state()
        for _ in range(max_steps):
            joints, image = self._joints, self.observe()
            values = self._record(steps, image, joints, (yield image, joints), task)
            ended = self._execute(values, float(rng.uniform(*latency)))
            if ended:
                reason = ended
                break
        self.shaper.stop(reason, self.world.time)
        self.world.set_base(0.0, 0.0)
        success = Scorer(task).success(self.world)
        return self._episode(steps, task, scene, success, reason, episode_id, source, instruction, checkpoint)

    def _record(
        self, steps: _Steps, image: NDArray[np.uint8], joints: Mapping[str, float], decision: Any, task: Task
    ) -> NDArray[np.float64]:
        """Record the step that was decided; returns the action (D,) that is executed, on bin centres."""
        world = self.world
        asked: Any = getattr(decision, "values", decision)
        values = self.space.decode(self.space.encode(asked))
        steps.images.append(image)
        steps.proprio.append(self.proprioception.encode(joints))
        steps.actions.append(values)
        steps.q.append(getattr(decision, "q", None))
        steps.stamps.append(world.time)
        points = (key_point(world, task), world.tool_pose("world")[:3])
        steps.keypoints.append([world.project(point) for point in points])
        steps.privileged.append(skill_state(world, task) if self.skills else privileged_state(world, task.target))
        return values

    def _execute(self, values: NDArray[np.float64], delay: float) -> str:
        """One policy period; ``values`` arrive after ``delay`` s. The reason when the episode ended in it, else ''."""
        world, start, arrived = self.world, self.world.time, False
        for tick in range(self._ticks):
            now = start + tick * self._tick
            if not arrived and now >= start + delay:
                if self._terminate >= 0 and values[self._terminate] >= 0.5:
                    return "terminate"
                self.shaper.submit(values, now, start)
                arrived = True
            measured = world.joint_positions()
            command = self.shaper.tick(now, self.proprioception.tool(measured)[0])
            if command.reason is not None:
                return command.reason
            setpoint = self.servo.tick(command.arm_twist, self._tick, measured)
            # Before the arm controller has got there the next trajectory starts from where it is.
            self._desired = self._desired + (setpoint - self._desired) / SERVO_HORIZON
            world.set_arm_target(dict(zip(self.servo.joints, self._desired.tolist(), strict=True)))
            if command.gripper is not None:
                world.set_gripper(command.gripper)
            world.set_base(*command.base)
            self._step_world(self._ticks - tick)
        return ""

    def _draw_joint_lag(self, rng: np.random.Generator) -> float:
        """How much older than the picture its joint state is, s: a whole number of physics steps."""
        physics = float(self.world.model.opt.timestep)
        rate = self.contract.observation("joint_state").rate
        period = min(1.0 / rate, self.contract.policy_period) if rate else physics
        return physics * int(rng.integers(0, max(1, round(period / physics))))

    def _step_world(self, left: int) -> None:
        """One tick of the ``left`` ones before the next picture; takes the joint state for it when its time comes."""
        before = left * self._tick - self._joint_lag  # s until that time
        if not _EPSILON < before <= self._tick + _EPSILON:
            self.world.step(self._tick)
            return
        self.world.step(before)
        self._joints = self._joint_state()
        if self._tick - before > _EPSILON:
            self.world.step(self._tick - before)

    def _joint_state(self) -> dict[str, float]:
        """What a joint state message would hold for the policy now."""
        positions = self.world.joint_positions()
        return {joint: positions[joint] for joint in self._reported}

    def _episode(
        self, steps: _Steps, task: Task, scene: SceneSpec, success: bool, reason: str, episode_id: str, source: str,
        instruction: str | None, checkpoint: str,
    ) -> Episode:  # fmt: skip
        actions = np.array(steps.actions)
        outcome = "success" if success else "failure"
        rewards = np.zeros(len(actions), dtype=np.float32)
        rewards[-1] = float(success)
        q = None if any(row is None for row in steps.q) else np.array(steps.q, dtype=np.float32)
        episode = Episode(
            episode_id=episode_id,
            instruction=scene.instruction if instruction is None else instruction,
            task=task.name,
            images=np.array(steps.images),
            proprio=np.array(steps.proprio),
            actions=actions.astype(np.float32),
            bins=self.space.encode(actions).astype(np.int16),
            rewards=rewards,
            terminated=is_terminal(outcome, reason),
            outcome=outcome,
            reason=reason,
            source=source,
            seed=scene.seed,
            stamps=np.array(steps.stamps, dtype=np.float64),
            contract_sha256=self.contract.sha256,
            action_space_sha256=self.space.sha256,
            checkpoint=checkpoint,
            q_values=q,
            keypoints=np.array(steps.keypoints, dtype=np.float32),
            privileged=np.array(steps.privileged, dtype=np.float32),
        )
        episode.validate()
        return episode
