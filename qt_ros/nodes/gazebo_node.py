"""gazebo_node: what sim_node does for episodes, in Gazebo: sets scenes up and scores episodes.

Serves reset_scene and publishes episode_outcome, so that a client sees no difference. It reads the poses that Gazebo
publishes (entities/NAME/pose through ros_gz_bridge) and sets them with the command `gz service`; the robot itself is
driven by its controllers. Ground truth is used for scoring only. Light and camera mount stay as the world has them.
"""

from __future__ import annotations

import math
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from geometry_msgs.msg import PoseStamped, TwistStamped
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup
from rclpy.clock import Clock
from rclpy.clock_type import ClockType
from rclpy.duration import Duration
from rclpy.node import Node
from rclpy.task import Future
from sensor_msgs.msg import JointState
from trajectory_msgs.msg import JointTrajectory, JointTrajectoryPoint

from qt_ros.contract.codecs import decode_joint_positions, ns_to_seconds, stamp_to_ns
from qt_ros.contract.robot import load_contract, package_root
from qt_ros.msg import EpisodeOutcome, EpisodeStatus
from qt_ros.nodes.inputs import subscribe
from qt_ros.nodes.lifecycle import COMMAND, LATCHED, SENSOR, STATUS, run
from qt_ros.nodes.parameters import ROBOT, Parameter, ParameterTable
from qt_ros.sim.gazebo import ROBOT_ENTITY, Pose7, object_poses, robot_pose, set_poses_command
from qt_ros.sim.pose_scoring import Body, PoseScorer, check_skill
from qt_ros.sim.sdf import read_sdf
from qt_ros.sim.tasks import Task, find_task, sample_scene
from qt_ros.sim.world import SceneSpec
from qt_ros.srv import ResetScene

PARAMETERS = ParameterTable(
    ROBOT,
    Parameter("world", "", "SDF world that Gazebo runs; empty: the kitchen of this package."),
    Parameter("start_x", 0.0, "Where the robot stands at the start of an episode.", unit="m", low=-100.0, high=100.0),
    Parameter("start_y", 0.0, "Where the robot stands at the start of an episode.", unit="m", low=-100.0, high=100.0),
    Parameter("start_yaw", 0.0, "Which way it looks then, about z.", unit="rad", low=-7.0, high=7.0),
    Parameter("move_time", 2.0, "How long the arm takes to its start position.", unit="s", low=0.2, high=60.0),
    Parameter("patience", 30.0, "How long a reset may take, on the wall.", unit="s", low=0.1, high=600.0),
    Parameter("pose_patience", 1.0, "How long a verdict waits for poses, on the wall.", unit="s", low=0.1, high=60.0),
)
WATCH_PERIOD = 0.02  # s on the wall
AT_REST = 0.002  # m an object may move within STILL and count as standing
STILL = 0.2  # s of simulated time
PLACED = 0.03  # m an object may end up from where it was put
ATTEMPTS = 3  # at putting the objects where they belong
REACHED = 0.03  # rad or m of a joint from its start position


class ResetFailed(RuntimeError):
    """The scene could not be set up; the message says what was waited for."""


@dataclass
class Entity:
    """Newest pose of one entity, since when (simulated s) it has stood still, and its speed (m/s) since the last."""

    pose: Pose7
    stamp: float
    anchor: tuple[float, float, float]
    still_since: float
    speed: float = 0.0


class GazeboNode(Node):
    """Poses in, scenes and verdicts out; see the module."""

    def __init__(self) -> None:
        super().__init__("gazebo_node")
        s = self.settings = PARAMETERS.declare(self)
        self.contract = load_contract(s.robot)
        self.world = read_sdf(Path(s.world) if s.world else package_root() / "description" / "kitchen.sdf")
        self.scorer = PoseScorer(self.contract)
        self.objects = [model.name for model in self.world.models if model.free]
        self.entities: dict[str, Entity] = {}
        self.joints: dict[str, float] = {}
        self._joints_stamp = -math.inf
        self.task: Task | None = None
        self.running_episode = ""
        self._busy = False
        self._judged = ""
        self._reset_ns = 0
        self._rest: dict[str, Pose7] = {}
        self._waiting: list[tuple[Callable[[], bool], float, Future]] = []
        commands, spec = self.contract.commands, self.contract.kinematics
        self._spec = spec
        self._outcome_out = self.create_publisher(EpisodeOutcome, "episode_outcome", LATCHED)
        self._arm_out = self.create_publisher(JointTrajectory, "arm_controller/joint_trajectory", COMMAND)
        self._gripper_out = self.create_publisher(JointTrajectory, commands["gripper"].topic, COMMAND)
        self._base_out = self.create_publisher(TwistStamped, commands["base"].topic, COMMAND)
        subscribe(self, EpisodeStatus, "episode_status", self._on_status, STATUS)
        subscribe(self, JointState, self.contract.observation("joint_state").topic, self._on_joints, SENSOR)
        for name in (ROBOT_ENTITY, *self.objects):
            subscribe(self, PoseStamped, f"entities/{name}/pose", partial(self._on_pose, name), SENSOR)
        # A group of its own: while a reset waits, messages and the timer are served.
        alone = MutuallyExclusiveCallbackGroup()
        self.create_service(ResetScene, "reset_scene", self._on_reset, callback_group=alone)  # type: ignore[misc]
        self.create_timer(WATCH_PERIOD, self._watch, clock=Clock(clock_type=ClockType.STEADY_TIME))

    # --- what Gazebo says --------------------------------------------------------------------------------------------

    def _on_pose(self, name: str, message: PoseStamped) -> None:
        p, q = message.pose.position, message.pose.orientation
        pose = (p.x, p.y, p.z, q.x, q.y, q.z, q.w)
        if not all(math.isfinite(value) for value in pose):
            raise ValueError("the pose is not finite")
        stamp, old = ns_to_seconds(stamp_to_ns(message.header.stamp)), self.entities.get(name)
        speed = 0.0
        if old is not None and (passed := stamp - old.stamp) >= 0.0:
            speed = math.dist(pose[:3], old.pose[:3]) / passed if passed > 0.0 else old.speed
        if old is None or stamp < old.stamp or math.dist(pose[:3], old.anchor) > AT_REST:
            self.entities[name] = Entity(pose, stamp, pose[:3], stamp, speed)
        else:
            old.pose, old.stamp, old.speed = pose, stamp, speed

    def _on_joints(self, message: JointState) -> None:
        stamp = ns_to_seconds(stamp_to_ns(message.header.stamp))
        self.joints.update(decode_joint_positions(message, (*self.scorer.joints, *self.scorer.optional_joints)))
        self._joints_stamp = stamp

    # --- waiting without blocking ------------------------------------------------------------------------------------

    async def _until(self, ready: Callable[[], bool], timeout: float) -> bool:
        """True as soon as ``ready()``; False after ``timeout`` s on the wall. Messages are served meanwhile."""
        future = Future(executor=self.executor)
        self._waiting.append((ready, time.monotonic() + timeout, future))
        return bool(await future)

    def _watch(self) -> None:
        now, still = time.monotonic(), []
        for ready, deadline, future in self._waiting:
            if ready():
                future.set_result(True)
            elif now > deadline:
                future.set_result(False)
            else:
                still.append((ready, deadline, future))
        self._waiting = still

    async def _set_poses(self, poses: dict[str, Pose7]) -> None:
        """Have Gazebo set them; ResetFailed with its words when it does not."""
        done = threading.Event()
        problem = ["no answer"]

        def ask() -> None:
            try:
                command = set_poses_command(self.world.name, poses)
                result = subprocess.run(command, capture_output=True, text=True, timeout=self.settings.patience)
                told = (result.stdout + result.stderr).strip() or f"exit code {result.returncode} without a word"
                problem[0] = "" if "data: true" in result.stdout else told
            except (OSError, subprocess.TimeoutExpired) as error:
                problem[0] = f"{error}; is Gazebo's command line tool `gz` installed and on PATH?"
            finally:
                done.set()

        threading.Thread(target=ask, name="gz service", daemon=True).start()
        await self._until(done.is_set, 2.0 * self.settings.patience)
        if problem[0]:
            raise ResetFailed(f"Gazebo did not set the poses in world {self.world.name!r}: {problem[0]}")

    # --- scenes ------------------------------------------------------------------------------------------------------

    async def _on_reset(self, request: ResetScene.Request, response: ResetScene.Response) -> ResetScene.Response:
        if self._busy:
            response.message = "another reset is under way; wait for its answer"
            return response
        if self.running_episode and self.count_publishers("episode_status"):
            response.message = f"episode {self.running_episode} is running; end it before setting up another scene"
            return response
        self.running_episode = ""
        self._busy = True
        try:
            scene = sample_scene(find_task(request.task) if request.task else None, request.seed)
            check_skill(find_task(scene.task))  # another scene than the embedded simulator's would be no answer
            instruction = scene.instruction
            if request.instruction_for:
                instruction = sample_scene(find_task(request.instruction_for), request.seed).instruction
            self.task = None  # whatever ends while the scene is half set up is not judged
            await self._set_up(scene)
        except (ValueError, ResetFailed) as error:
            response.message = str(error)
            self.get_logger().error(str(error))
            return response
        finally:
            self._busy = False
        self.task, self._judged = find_task(scene.task), ""
        self._reset_ns = self.get_clock().now().nanoseconds
        self.get_logger().info(f"scene: seed {request.seed}, task {scene.task}, objects {', '.join(scene.objects)}")
        response.success = True
        response.task, response.instruction, response.target = scene.task, instruction, scene.target
        response.objects = list(scene.objects)
        return response

    async def _set_up(self, scene: SceneSpec) -> None:
        """Robot home, then objects where they belong, then everything at rest."""
        s, spec = self.settings, self._spec
        silent = [name for name in (ROBOT_ENTITY, *self.objects) if name not in self.entities]
        if silent:
            topics = ", ".join(f"entities/{name}/pose" for name in silent)
            raise ResetFailed(f"nothing has come on {topics}; is Gazebo running, and ros_gz_bridge with bridge.yaml?")
        start = {**spec.home, **scene.joints}
        self._base_out.publish(self._zero())
        self._send(self._gripper_out, (spec.gripper_joint,), start)
        self._send(self._arm_out, spec.arm_joints, start)
        far: list[str] = []

        def reached() -> bool:
            far[:] = [j for j in self.scorer.joints if abs(self.joints.get(j, math.inf) - start[j]) > REACHED]
            return not far

        if not await self._until(reached, s.patience):
            raise ResetFailed(f"{', '.join(far)} did not reach the start position; are the controllers active?")
        poses = {ROBOT_ENTITY: self._start_pose(scene), **object_poses(self.world, scene)}
        for _ in range(ATTEMPTS):  # what was moving when it was put somewhere keeps its speed, and may roll away
            await self._set_poses(poses)
            newest = max(entity.stamp for entity in self.entities.values())
            if await self._until(partial(self._all_stand, scene, poses, newest), s.patience / ATTEMPTS):
                break
        else:
            loose = [name for name in (ROBOT_ENTITY, *scene.objects) if not self._stands(name, poses[name], 0.0)]
            raise ResetFailed(f"{', '.join(loose)} did not come to rest where the scene puts it")
        if self.running_episode:
            raise ResetFailed(f"episode {self.running_episode} began while the scene was being set up; set it up again")
        self._rest = {name: self.entities[name].pose for name in scene.objects}

    def _start_pose(self, scene: SceneSpec) -> Pose7:
        """The scene's start of the base (x, y, yaw), as seen from where the parameters let the robot begin."""
        s, (x, y, yaw) = self.settings, scene.base
        cosine, sine = math.cos(s.start_yaw), math.sin(s.start_yaw)
        return robot_pose(s.start_x + cosine * x - sine * y, s.start_y + sine * x + cosine * y, s.start_yaw + yaw)

    def _all_stand(self, scene: SceneSpec, poses: dict[str, Pose7], since: float) -> bool:
        return all(self._stands(name, poses[name], since) for name in (ROBOT_ENTITY, *scene.objects))

    def _stands(self, name: str, wanted: Pose7, since: float) -> bool:
        entity = self.entities[name]
        axes = 2 if name == ROBOT_ENTITY else 3  # how high the robot's frame stands is its wheels' business
        near = math.dist(entity.pose[:axes], wanted[:axes]) <= PLACED
        return near and entity.stamp > since and entity.stamp - max(entity.still_since, since) >= STILL

    def _zero(self) -> TwistStamped:
        message = TwistStamped()
        message.header.stamp, message.header.frame_id = self.get_clock().now().to_msg(), self._spec.base_frame
        return message

    def _send(self, out: object, joints: tuple[str, ...], start: dict[str, float]) -> None:
        point = JointTrajectoryPoint(positions=[start[j] for j in joints])
        point.time_from_start = Duration(seconds=self.settings.move_time).to_msg()
        out.publish(JointTrajectory(joint_names=list(joints), points=[point]))  # type: ignore[attr-defined]

    # --- verdicts ----------------------------------------------------------------------------------------------------

    def _on_status(self, status: EpisodeStatus) -> None:
        # As in sim_node: an episode that was seen running belongs to this scene, whatever its stamps.
        seen_running = bool(status.episode_id) and status.episode_id == self.running_episode
        self.running_episode = status.episode_id if status.state == EpisodeStatus.STATE_RUNNING else ""
        if status.state != EpisodeStatus.STATE_ENDED or self.task is None or status.episode_id == self._judged:
            return
        ended = stamp_to_ns(status.header.stamp)
        if seen_running or ended >= self._reset_ns:
            self._judged = status.episode_id
            assert self.executor is not None  # a callback runs in one
            self.executor.create_task(self._judge(status.episode_id, self.task, ns_to_seconds(ended)))

    async def _judge(self, episode_id: str, task: Task, ended: float) -> None:
        """Score the episode by the first poses after its end; unknown when none come."""
        needed = [name for name in (task.target, task.near, ROBOT_ENTITY) if name]
        late: list[str] = []

        def told() -> bool:
            late[:] = [f"entities/{name}/pose" for name in needed if self.entities[name].stamp < ended]
            late.extend(["joint_states"] if self._joints_stamp < ended else [])
            return not late

        known = await self._until(told, self.settings.pose_patience)
        outcome = EpisodeOutcome(episode_id=episode_id, labelled_by="gazebo")
        outcome.header.stamp = self.get_clock().now().to_msg()
        try:
            if not known:
                raise ValueError(f"nothing came on {', '.join(late)} since the episode's end")
            seen = ((name, self.entities[name]) for name in needed if name != ROBOT_ENTITY)
            bodies = {name: Body(entity.pose, self._rest[name], entity.speed) for name, entity in seen}
            verdict = self.scorer.verdict(task, bodies, self.entities[ROBOT_ENTITY].pose, self.joints)
            outcome.outcome = EpisodeStatus.OUTCOME_SUCCESS if verdict.success else EpisodeStatus.OUTCOME_FAILURE
            outcome.comment = f"task {task.name}: {verdict.told}"
        except ValueError as error:
            outcome.outcome = EpisodeStatus.OUTCOME_UNKNOWN
            outcome.comment = f"task {task.name}: not judged, {error}"
        self._outcome_out.publish(outcome)
        self.get_logger().info(f"episode {episode_id}: {outcome.comment}")


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    return run(GazeboNode, arguments)


if __name__ == "__main__":
    sys.exit(main())
