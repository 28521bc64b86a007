"""Runs the policy through one episode at a time, in a thread of its own, and ends each with a named reason.

The caller gives it frames, joint states and the time; it decides when a step is due, decodes only the frame it
uses, and reports decisions and the end. Sensor callbacks never wait for the network: while a step runs, newer
frames replace older ones, and the next step takes the newest. No ROS here; reasons are the lower-case names of
EpisodeStatus REASON_*.
"""

from __future__ import annotations

import threading
import time
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from qt_ros.contract.codecs import (
    MalformedImage,
    NonFiniteObservation,
    UnsupportedEncoding,
    check_image_size,
    decode_image,
    decode_joint_positions,
)
from qt_ros.contract.observations import observed_joints
from qt_ros.contract.robot import ObservationSpec, RobotContract
from qt_ros.control.frozen_camera import FrozenCamera
from qt_ros.control.joint_history import JointHistory
from qt_ros.control.latency import LatencyTracker
from qt_ros.control.limits import NonFiniteError

FUTURE = 1.0  # s a stamp may be ahead: what a busy node has not yet read of /clock
TICK_TOLERANCE = 0.05  # of a policy period: stamps on a grid of their own may come a little early


class Actor(Protocol):
    """What a policy must offer (see :class:`qt_ros.control.policy.Policy`)."""

    def reset(self, instruction: str) -> None: ...

    def step(self, image: NDArray[np.uint8], joint_positions: Mapping[str, float]) -> Any: ...


@dataclass(frozen=True)
class Frame:
    """An image as received: the message (not decoded), its stamp in s, and the monotonic receipt time in s."""

    message: Any
    stamp: float
    received: float


@dataclass
class Episode:
    """A running or ended episode. Times in s of the node's clock; latencies in ms."""

    episode_id: str
    instruction: str
    start: float
    max_duration: float
    reason: str = ""
    message: str = ""
    steps: int = 0
    due: float = 0.0
    checked: float = 0.0  # the newest time at which it was looked after
    greeted: bool = False  # the policy has been reset for it
    latency: LatencyTracker = field(default_factory=lambda: LatencyTracker(warm_up=0))
    overhead: LatencyTracker = field(default_factory=lambda: LatencyTracker(warm_up=0))

    @property
    def running(self) -> bool:
        return not self.reason


@dataclass(frozen=True)
class Step:
    """One decision of an episode.

    ``latency_ms``: receipt of the image to now; ``network_ms``: the network's part of it.
    """

    episode: Episode
    index: int
    decision: Any
    frame: Frame
    latency_ms: float
    network_ms: float


class EpisodeRunner:
    """``on_step(step)`` and ``on_end(episode)`` are called with the lock held: nothing follows the end of an episode.

    ``clock`` gives seconds on the clock the stamps are from. ``real_camera``: one with noise, whose picture is frozen
    when it never changes. ``obeyed``: whether what is decided is executed, as far as is known.
    """

    def __init__(
        self,
        contract: RobotContract,
        actor: Actor,
        clock: Callable[[], float],
        on_step: Callable[[Step], None],
        on_end: Callable[[Episode], None],
        real_camera: bool = False,
    ) -> None:
        self.contract, self.actor = contract, actor
        self.camera, self.joint_spec = contract.observation("image"), contract.observation("joint_state")
        self.joints = JointHistory(*observed_joints(contract))
        self._frozen = FrozenCamera(contract) if real_camera else None
        self.episode: Episode | None = None
        self._clock, self._on_step, self._on_end = clock, on_step, on_end
        self._frame: Frame | None = None
        self._camera_stamp = -np.inf
        self._ahead: dict[str, float] = {}
        self._lock = threading.RLock()
        self._wake = threading.Condition(self._lock)
        self._closed = False
        self.obeyed = False
        self._thread = threading.Thread(target=self._work, name="policy", daemon=True)
        self._thread.start()

    @property
    def busy(self) -> bool:
        """True while an episode runs."""
        return self.episode is not None and self.episode.running

    def start(self, episode_id: str, instruction: str, max_duration: float) -> Episode:
        """Open an episode; only images and joint states that come from now on count.

        The robot may just have been set up anew, and a position from before would tell the policy of another state.
        Raises RuntimeError while another episode runs.
        """
        with self._lock:
            if self.busy:
                raise RuntimeError(f"episode {self.episode.episode_id if self.episode else ''} is still running")
            now = self._clock()
            self.episode = Episode(episode_id, instruction, now, max_duration, due=now, checked=now)
            self._frame = None
            self.joints.clear()
            self._wake.notify_all()
            return self.episode

    def end(self, reason: str, message: str = "", only: Episode | None = None) -> bool:
        """End the running episode (``only`` if it is that one).

        The first reason stays; False when nothing was running.
        """
        with self._lock:
            episode = self.episode
            if episode is None or not episode.running or (only is not None and only is not episode):
                return False
            episode.reason, episode.message = reason, message
            self._on_end(episode)
            self._wake.notify_all()
            return True

    def hasten(self) -> None:
        """Take the next step with the next image, before its time: what was decided last shall not hold any longer."""
        with self._lock:
            if self.episode is not None and self.episode.running:
                self.episode.due = min(self.episode.due, self._clock())

    def offer_image(self, message: Any, stamp: float, received: float) -> None:
        """Take a new image message; it replaces one that has not been used yet.

        One from the future (another clock) is not taken and leaves the camera stale.
        """
        with self._lock:
            if self._from_future(self.camera, stamp):
                return
            self._camera_stamp = stamp
            episode = self.episode
            if episode is None or not episode.running or stamp < episode.start:
                return
            self._frame = Frame(message, stamp, received)
            if self._is_due(episode, self._frame):
                self._wake.notify_all()

    def offer_joints(self, message: Any, stamp: float) -> None:
        """Take a JointState message, not one from the future.

        A position that is not finite ends the episode, so does a malformed message.
        """
        with self._lock:
            if self._from_future(self.joint_spec, stamp):
                return
            try:
                self.joints.add(stamp, decode_joint_positions(message, self.joints.known))
            except NonFiniteObservation as error:
                self.end("non_finite", f"{self.joint_spec.topic}: {error}; check the driver")
            except ValueError as error:
                self.end("fault", f"{self.joint_spec.topic}: {error}; check the driver")

    def check(self) -> None:
        """End the episode when its time is up or an observation is older than the contract allows; call it often."""
        with self._lock:
            episode, now = self.episode, self._clock()
            if episode is None or not episode.running:
                return
            if now < episode.checked:  # ages and the time limit would count for nothing until it has caught up
                self.end("fault", f"the clock was set back by {episode.checked - now:.2f} s during the episode")
                return
            episode.checked = now
            for spec, stamp, reason in (
                (self.camera, self._camera_stamp, "stale_camera"),
                (self.joint_spec, self.joints.latest, "stale_joints"),
            ):
                age = now - max(stamp, episode.start)
                if spec.on_stale == "stop" and age > spec.max_age:
                    told = f"{spec.topic}: nothing new for {age:.2f} s, limit {spec.max_age} s; is it published?"
                    ahead = self._ahead.get(spec.name, 0.0)
                    if ahead:
                        told = (
                            f"{spec.topic}: stamped {ahead:.2f} s in the future; give every node the same use_sim_time"
                        )
                    self.end(reason, told)
                    return
            if now - episode.start > episode.max_duration:
                self.end("timeout", f"not finished within {episode.max_duration:g} s")

    def _from_future(self, spec: ObservationSpec, stamp: float) -> bool:
        """Whether ``stamp`` is too far ahead of our clock to be of any use (it would never grow stale)."""
        ahead = stamp - self._clock()
        self._ahead[spec.name] = ahead if ahead > FUTURE else 0.0
        return ahead > FUTURE

    def close(self) -> None:
        """Stop the thread; a step in progress is waited for and dropped."""
        with self._lock:
            self._closed = True
            self._wake.notify_all()
        self._thread.join()

    def _is_due(self, episode: Episode, frame: Frame) -> bool:
        return frame.stamp >= episode.due - TICK_TOLERANCE * self.contract.policy_period

    def _work(self) -> None:
        while True:
            with self._lock:
                while not self._closed:
                    episode, frame = self.episode, self._frame
                    if episode is not None and episode.running:
                        if not episode.greeted or (frame is not None and self._is_due(episode, frame)):
                            break
                    self._wake.wait()
                if self._closed or episode is None:
                    return
                if episode.greeted:
                    self._frame = None
            try:
                if not episode.greeted:
                    self.actor.reset(episode.instruction)
                    if self._frozen is not None:
                        self._frozen.forget()
                    episode.greeted = True
                elif frame is not None:
                    self._step(episode, frame)
            except (MalformedImage, UnsupportedEncoding) as error:
                self.end("bad_image", f"{self.camera.topic}: {error}", only=episode)
            except NonFiniteError as error:
                self.end("non_finite", str(error), only=episode)
            except Exception as error:  # whatever goes wrong in there must stop the robot and be told
                self.end("fault", f"{type(error).__name__}: {error}\n{traceback.format_exc()}", only=episode)

    def _step(self, episode: Episode, frame: Frame) -> None:
        image = self._decode(frame.message)
        with self._lock:
            positions, missing = self.joints.as_of(frame.stamp, self.joint_spec.max_age)
        if missing and frame.stamp - episode.start <= self.joint_spec.max_age:
            return  # the episode has just begun: the next image will have joint states before it
        if missing:
            what = f"no position of {', '.join(missing)} from the last {self.joint_spec.max_age:g} s before the image"
            self.end("stale_joints", f"{self.joint_spec.topic}: {what}; is every joint published?", only=episode)
            return
        if self._frozen is not None and (told := self._frozen.look(image, positions, frame.stamp)):
            self.end("stale_camera", f"{self.camera.topic}: {told}", only=episode)
            return
        decision = self.actor.step(image, positions)
        network_ms = decision.timings_ms["encode"] + decision.timings_ms["decode"]
        if not (np.isfinite(decision.values).all() and np.isfinite(decision.q).all()):
            self.end(
                "non_finite", "the policy decided on a number that is not finite; check the checkpoint", only=episode
            )
            return
        with self._lock:
            if self.episode is not episode or not episode.running:
                return  # ended while the network was at work
            latency_ms = (time.monotonic() - frame.received) * 1e3
            step = Step(episode, episode.steps, decision, frame, latency_ms, network_ms)
            episode.steps += 1
            episode.latency.add(latency_ms)
            episode.overhead.add(max(0.0, latency_ms - network_ms))
            self._on_step(step)
            if self._frozen is not None and self.obeyed:
                self._frozen.drive(decision.values)
            period = self.contract.policy_period
            on_grid = episode.due + period
            episode.due = on_grid if episode.steps > 1 and on_grid > frame.stamp else frame.stamp + period
            if decision.terminate:
                self.end("terminate", "the policy terminated", only=episode)

    def _decode(self, message: Any) -> NDArray[np.uint8]:
        spec = self.camera
        if spec.frame and message.header.frame_id != spec.frame:
            raise MalformedImage(f"frame_id is {message.header.frame_id!r}, the contract says {spec.frame!r}")
        image = decode_image(message)
        check_image_size(image, spec.height, spec.width, spec.name)
        return image
