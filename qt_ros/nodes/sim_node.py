"""sim_node: the simulated robot, a robot to everybody else.

Publishes camera, joint states, odometry and /clock; takes arm and gripper trajectories and cmd_vel; sets scenes up by
the service reset_scene. Ground truth leaves this node only as the EpisodeOutcome that scores a finished episode.

One thread does everything: callbacks are served between physics steps, for as long as real time allows, so nothing here
needs a lock, and pictures are rendered where OpenGL wants them.
"""

from __future__ import annotations

import signal
import sys
import threading

import rclpy
from geometry_msgs.msg import TwistStamped
from nav_msgs.msg import Odometry
from rclpy.executors import SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import QoSProfile
from rclpy.signals import SignalHandlerOptions
from rosgraph_msgs.msg import Clock
from sensor_msgs.msg import CameraInfo, CompressedImage, Image, JointState
from trajectory_msgs.msg import JointTrajectory

from qt_ros.contract.codecs import ns_to_seconds, stamp_to_ns
from qt_ros.contract.robot import load_contract
from qt_ros.control.health import Health, Stream, sim_health
from qt_ros.msg import EpisodeOutcome, EpisodeStatus
from qt_ros.nodes.diagnostics import Diagnostics
from qt_ros.nodes.inputs import subscribe
from qt_ros.nodes.lifecycle import COMMAND, EVENT, LATCHED, STATUS
from qt_ros.nodes.parameters import ROBOT, Parameter, ParameterTable
from qt_ros.nodes.real_time import freeze_memory
from qt_ros.nodes.sim_messages import (
    ImageMessage,
    camera_info_message,
    compressed_message,
    joint_state_message,
    odometry_message,
    time_message,
)
from qt_ros.sim.controllers import TrajectoryFollower, Waypoint
from qt_ros.sim.pacing import Pacer, Periodic
from qt_ros.sim.robot import SimulatedRobot
from qt_ros.sim.tasks import Scorer, Task, find_task, sample_scene
from qt_ros.sim.world import SimulationError
from qt_ros.srv import ResetScene

PARAMETERS = ParameterTable(
    ROBOT,
    Parameter("real_time_factor", 1.0, "Simulated seconds per second; 0: as fast as possible.", low=0.0, high=100.0),
    Parameter("clock_rate", 125.0, "Rate of /clock in simulated time.", unit="Hz", low=100.0, high=250.0),
    Parameter("cmd_vel_timeout", 0.5, "A base velocity older than this is not obeyed.", unit="s", low=0.01, high=10.0),
)
# Two seconds of history: a recorder that asks for every message may be kept from its work for a while. Reliable matches
# best-effort subscriptions too.
IMAGES, STATES = QoSProfile(depth=30), QoSProfile(depth=100)


class SimNode(Node):
    """The robot, its sensors and its controllers on ROS topics; ``run`` until told to stop."""

    def __init__(self) -> None:
        super().__init__("sim_node")
        self.settings = PARAMETERS.declare(self)
        self.contract = load_contract(self.settings.robot)
        self.camera = self.contract.observation("image")
        self.robot = SimulatedRobot(self.contract, self.settings.cmd_vel_timeout)
        self.pacer = Pacer(self.settings.real_time_factor)
        self.task: Task | None = None
        self.running_episode = ""
        self._judged = ""
        self._reset_ns = 0
        self._unstable = ""
        self._clock_ns = -1
        self._camera_due = Periodic(self.camera.rate)
        self._joints_due = Periodic(self.contract.observation("joint_state").rate)
        self._clock_due = Periodic(self.settings.clock_rate)
        self._image = ImageMessage(self.camera.height, self.camera.width, self.camera.frame)
        self._info = camera_info_message(self.robot.world.camera_info(self.camera.width, self.camera.height))
        self._pictures = Stream(self.camera.topic, self.camera.rate)
        self._publishers_and_subscriptions()
        Diagnostics(self, self.health, self.contract.robot)
        self.robot.world.render(self.camera.width, self.camera.height)  # the first picture is the slow one
        freeze_memory()

    def _publishers_and_subscriptions(self) -> None:
        topic, joints = self.camera.topic, self.contract.observation("joint_state").topic
        self._clock_out = self.create_publisher(Clock, "/clock", EVENT)
        self._image_out = self.create_publisher(Image, topic, IMAGES)
        self._jpeg_out = self.create_publisher(CompressedImage, f"{topic}/compressed", IMAGES)
        self._info_out = self.create_publisher(CameraInfo, f"{topic.rpartition('/')[0]}/camera_info", IMAGES)
        self._joints_out = self.create_publisher(JointState, joints, STATES)
        self._odom_out = self.create_publisher(Odometry, "odom", STATES)
        self._outcome_out = self.create_publisher(EpisodeOutcome, "episode_outcome", LATCHED)
        commands = self.contract.commands
        subscribe(self, JointTrajectory, "arm_controller/joint_trajectory", self._on_arm, COMMAND)
        subscribe(self, JointTrajectory, commands["gripper"].topic, self._on_gripper, COMMAND)
        subscribe(self, TwistStamped, commands["base"].topic, self._on_base, COMMAND)
        subscribe(self, EpisodeStatus, "episode_status", self._on_status, STATUS)
        self.create_service(ResetScene, "reset_scene", self._on_reset)

    # --- time --------------------------------------------------------------------------------------------------------

    def run(self, done: threading.Event) -> None:
        """Step, publish and serve callbacks until ``done``."""
        executor = SingleThreadedExecutor(context=self.context)
        executor.add_node(self)
        report = Periodic(0.1)
        self.pacer.restart(self.robot.time)
        while not done.is_set():
            self._step()
            self._publish()
            executor.spin_once(timeout_sec=0.0)
            while (delay := self.pacer.delay(self.robot.time)) > 0.0:
                executor.spin_once(timeout_sec=delay)
            if report.due(self.robot.time):
                self.get_logger().debug(
                    f"real-time factor {self.pacer.measured:.2f}, slipped {self.pacer.slipped:.2f} s"
                )

    def _step(self) -> None:
        try:
            self.robot.step()
        except SimulationError as error:
            self._unstable = str(error)
            self.get_logger().error(f"{error}; the scene is set up again, the episode counts as failed")
            self.robot.reset(self.robot.world.scene)

    def _publish(self) -> None:
        now = self.robot.time
        joints, camera = self._joints_due.due(now), self._camera_due.due(now)
        if self._clock_due.due(now) or joints or camera:
            self._publish_clock()
        stamp = time_message(self.robot.time_ns)
        world = self.robot.world
        if joints:
            self._joints_out.publish(joint_state_message(world.joint_positions(), world.joint_velocities(), stamp))
            self._odom_out.publish(odometry_message(world.odom(), stamp))
        raw, jpeg = (p.get_subscription_count() > 0 for p in (self._image_out, self._jpeg_out))
        if camera and (raw or jpeg):
            self._pictures.seen(now)
            picture = world.render(self.camera.width, self.camera.height)
            if raw:
                self._image_out.publish(self._image.fill(picture, stamp))
            if jpeg:
                self._jpeg_out.publish(compressed_message(picture, stamp, self.camera.frame))
            self._info.header.stamp = stamp
            self._info_out.publish(self._info)

    def _publish_clock(self) -> None:
        """Nothing is ever stamped later than the clock that was published."""
        if self.robot.time_ns != self._clock_ns:
            self._clock_ns = self.robot.time_ns
            self._clock_out.publish(Clock(clock=time_message(self._clock_ns)))

    # --- controllers -------------------------------------------------------------------------------------------------

    def _on_arm(self, message: JointTrajectory) -> None:
        self._follow(self.robot.arm, message)

    def _on_gripper(self, message: JointTrajectory) -> None:
        self._follow(self.robot.gripper, message)

    def _follow(self, controller: TrajectoryFollower, message: JointTrajectory) -> None:
        points = [
            Waypoint(ns_to_seconds(stamp_to_ns(p.time_from_start)), p.positions, p.velocities) for p in message.points
        ]
        start = ns_to_seconds(stamp_to_ns(message.header.stamp)) or None
        controller.accept(message.joint_names, points, self.robot.time, start)

    def _on_base(self, message: TwistStamped) -> None:
        stamp = ns_to_seconds(stamp_to_ns(message.header.stamp))
        self.robot.base.accept(message.twist.linear.x, message.twist.angular.z, stamp, self.robot.time)

    # --- episodes ----------------------------------------------------------------------------------------------------

    def _on_reset(self, request: ResetScene.Request, response: ResetScene.Response) -> ResetScene.Response:
        if self.running_episode and self.count_publishers("episode_status"):
            response.message = f"episode {self.running_episode} is running; end it before setting up another scene"
            return response
        self.running_episode = ""  # a policy that was killed never says that its episode is over
        try:
            scene = sample_scene(find_task(request.task) if request.task else None, request.seed)
            instruction = scene.instruction
            if request.instruction_for:
                instruction = sample_scene(find_task(request.instruction_for), request.seed).instruction
            self.robot.reset(scene)
        except (ValueError, SimulationError) as error:
            response.message = str(error)
            return response
        self.task, self._judged, self._unstable, self._reset_ns = find_task(scene.task), "", "", self.robot.time_ns
        self._publish_clock()
        self.get_logger().info(f"scene: seed {request.seed}, task {scene.task}, objects {', '.join(scene.objects)}")
        response.success = True
        response.task, response.instruction, response.target = scene.task, instruction, scene.target
        response.objects = list(scene.objects)
        return response

    def _on_status(self, status: EpisodeStatus) -> None:
        # No scene is set up while an episode runs, so one that was seen running belongs to this scene, whatever its
        # stamps: the clock of who sent them may lag behind a reset. One not seen running may be latched from before.
        seen_running = bool(status.episode_id) and status.episode_id == self.running_episode
        self.running_episode = status.episode_id if status.state == EpisodeStatus.STATE_RUNNING else ""
        if status.state == EpisodeStatus.STATE_ENDED:
            of_this_scene = seen_running or stamp_to_ns(status.header.stamp) >= self._reset_ns
            if self.task is not None and of_this_scene and status.episode_id != self._judged:
                self._judge(status.episode_id, self.task)

    def _judge(self, episode_id: str, task: Task) -> None:
        """Score the episode by ground truth, once, as things stand at its end."""
        self._judged = episode_id
        scorer = Scorer(task)
        success = not self._unstable and scorer.success(self.robot.world)
        outcome = EpisodeOutcome(episode_id=episode_id, labelled_by="sim")
        outcome.header.stamp = time_message(self.robot.time_ns)
        outcome.outcome = EpisodeStatus.OUTCOME_SUCCESS if success else EpisodeStatus.OUTCOME_FAILURE
        outcome.comment = f"task {task.name}: {self._unstable or scorer.describe(self.robot.world)}"
        self._outcome_out.publish(outcome)
        self.get_logger().info(f"episode {episode_id}: {'success' if success else 'failure'}, {outcome.comment}")

    def health(self, now: float) -> list[Health]:
        """What /diagnostics says. Rates count in simulated time; ``now`` is the wall's and not used."""
        pacer, seen = self.pacer, self._pictures
        state = sim_health(self.settings.real_time_factor, pacer.measured, pacer.slipped, self._unstable)
        state.values["episode"] = self.running_episode
        watched = seen.age(self.robot.time) < 1.0  # nothing is rendered that nobody looks at
        return [state, seen.health(self.robot.time, needed=watched)]


def main(arguments: list[str] | None = None) -> int:
    """Run the node until it is told to stop."""
    # rclpy's own handlers would end the context under a message that is just being published.
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    done = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: done.set())
    node = SimNode()
    try:
        node.run(done)
    finally:
        node.robot.world.close()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
