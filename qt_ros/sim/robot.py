"""The simulated robot as its drivers see it: a world behind an arm, a gripper and a base controller, on one clock.

The clock runs on through every reset: whoever follows it must never see it jump back.
"""

from __future__ import annotations

from qt_ros.contract.robot import RobotContract
from qt_ros.sim.controllers import TrajectoryFollower, VelocityCommand
from qt_ros.sim.world import SceneSpec, World


class SimulatedRobot:
    """World plus controllers, served every ``tick`` s (the physics step). Times in s of simulated time.

    All calls from one thread: rendering belongs to the thread that renders first.
    """

    def __init__(self, contract: RobotContract, cmd_vel_timeout: float = 0.5) -> None:
        spec = contract.kinematics
        self.contract = contract
        self.world = World(contract)
        self.arm = TrajectoryFollower(spec.arm_joints)
        self.gripper = TrajectoryFollower([spec.gripper_joint])
        self.base = VelocityCommand(cmd_vel_timeout)
        self.tick = float(self.world.model.opt.timestep)
        self._ticks = 0
        self.reset(SceneSpec())

    @property
    def time(self) -> float:
        """Seconds since the robot was switched on."""
        return self.time_ns * 1e-9

    @property
    def time_ns(self) -> int:
        """The same in ns, exact."""
        return self._ticks * round(self.tick * 1e9)

    def reset(self, scene: SceneSpec) -> None:
        """Set up ``scene``; controllers forget what they were doing and hold the scene's start position."""
        self.world.reset(scene)
        start = {**self.contract.kinematics.home, **scene.joints}
        self.arm.hold(start, self.time)
        self.gripper.hold(start, self.time)
        self.base.stop()

    def step(self) -> None:
        """Advance by one tick under the commands in force at its end."""
        self._ticks += 1
        now = self.time
        world, spec = self.world, self.contract.kinematics
        world.set_arm_target(self.arm.sample(now))
        world.set_gripper(spec.closedness(self.gripper.sample(now)[spec.gripper_joint]))
        world.set_base(*self.base.sample(now))
        world.step(self.tick)
