"""What all lifecycle nodes share: parameters, told errors, QoS profiles, and a `main` that ends cleanly.

A stop is never lost: SIGINT, SIGTERM and an exception in a callback all walk the node through `on_shutdown` while it
can still publish.
"""

from __future__ import annotations

import faulthandler
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import Any

import rclpy
from rclpy.executors import Executor, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode as RclpyLifecycleNode
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, qos_profile_sensor_data
from rclpy.signals import SignalHandlerOptions

from qt_ros.nodes.parameters import ParameterTable
from qt_ros.nodes.stopping import StopSignal

SENSOR = qos_profile_sensor_data
"""Best effort, the last 5: images and joint states, from any driver."""
COMMAND = QoSProfile(depth=1)
"""Reliable, the newest only: what moves the robot."""
COMMAND_OUT = QoSProfile(depth=50)
"""The same for publishers: a late recorder gets all of them; who subscribes with depth 1, the newest."""
EVENT = QoSProfile(depth=10)
"""Reliable, in order: decisions and reports."""
LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""Reliable, and whoever joins late gets the last one: status and instructions."""
STATUS = QoSProfile(depth=10, durability=DurabilityPolicy.TRANSIENT_LOCAL)
"""For readers of episode_status: the end of one episode and the beginning of the next may come at once."""

FAREWELL = 4.0  # s for the last answers; `launch` waits 5 s before it sends SIGTERM
LINGER = 0.1  # s in which the last one leaves the process
_FAILS = ("configuring", "activating")  # these go back to where they came from; the others go to error processing


class LifecycleNode(RclpyLifecycleNode):
    """A managed node with a parameter table.

    ``settings`` holds the parameters as they were when the node was configured; they can be set while it is
    unconfigured, and are refused with advice in every other state, where nobody would read them. A transition callback
    may raise: the error is logged with its advice and the transition fails. `release` is called whenever what
    `on_configure` made has to go.
    """

    def __init__(self, name: str, parameters: ParameterTable, **kwargs: Any) -> None:
        super().__init__(name, **kwargs)
        self.parameter_table = parameters
        self.settings = parameters.declare(self, refuse=self._not_now)
        # rclpy keeps silent about exceptions in transitions and lets an impossible transition end the process.
        self._callbacks = {state: _told(self, callback) for state, callback in self._callbacks.items()}
        self._service_change_state.callback = _answering(self, self._service_change_state.callback)

    @property
    def state(self) -> str:
        """Label of the lifecycle state: unconfigured, inactive, active, finalized, or a transition's name."""
        return str(self._state_machine.current_state[1])

    def _not_now(self) -> str:
        """Why no parameter can be set now: what is read while configuring would be answered "successful" in vain."""
        if self.state == "unconfigured":
            return ""
        return f"the node is {self.state} and would not heed it; deactivate and clean up first, then configure again"

    def release(self) -> None:
        """Free what `on_configure` made; called at any point, also after half of it failed. Override it."""

    def owes(self) -> bool:
        """Whether somebody still waits for an answer after the shutdown; it is waited for, for a moment."""
        return False

    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        """Back to unconfigured: `release`."""
        self.release()
        return super().on_cleanup(state)

    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        """The end, from any state: `release`."""
        self.release()
        return super().on_shutdown(state)

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        """After a failed deactivation or clean-up: `release`, then unconfigured again."""
        self.release()
        return super().on_error(state)

    def autostart(self) -> bool:
        """Configure and activate; False when one of them failed (its reason is in the log)."""
        ok = TransitionCallbackReturn.SUCCESS
        return self.trigger_configure() == ok and self.trigger_activate() == ok


def _told(
    node: LifecycleNode, callback: Callable[[LifecycleState], TransitionCallbackReturn]
) -> Callable[[LifecycleState], TransitionCallbackReturn]:
    """``callback`` with its exceptions logged; configuring and activating then fail, the others are errors."""

    def wrapper(previous: LifecycleState) -> TransitionCallbackReturn:
        label = node.state
        try:
            if label == "configuring":
                node.settings = node.parameter_table.read(node)
                node.parameter_table.tell_looser(node, node.settings)
            return callback(previous)
        except Exception as error:
            node.get_logger().error(f"{label} failed: {type(error).__name__}: {error}")
            node.get_logger().debug(traceback.format_exc())
            if label == "configuring":
                node.release()
            return TransitionCallbackReturn.FAILURE if label in _FAILS else TransitionCallbackReturn.ERROR

    return wrapper


def _answering(node: LifecycleNode, callback: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The change_state service with "no" for an answer where rclpy would raise."""

    def wrapper(request: Any, response: Any) -> Any:
        try:
            return callback(request, response)
        except Exception as error:
            node.get_logger().error(f"transition {request.transition.id} from {node.state!r} refused: {error}")
            response.success = False
            return response

    return wrapper


def run(make: Callable[[], Node], arguments: list[str] | None = None) -> int:
    """Run the node that ``make`` builds until SIGINT or SIGTERM (exit status 0) or an error (1).

    The node spins in a thread, so that a signal is answered at once even while nothing happens. Its last transition is
    shutdown, made while it can still publish. With the parameter ``autostart`` it configures and activates itself.
    """
    rclpy.init(args=arguments, signal_handler_options=SignalHandlerOptions.NO)
    stop = StopSignal()
    if sys.__stderr__ is not None:
        faulthandler.register(signal.SIGUSR1, file=sys.__stderr__)  # tells what every thread is doing
    status, node = 1, None
    try:
        node = make()
        wanted = isinstance(node, LifecycleNode) and getattr(node.settings, "autostart", False)
        if not wanted or node.autostart():  # type: ignore[attr-defined]
            status = _spin(node, stop)
    except Exception as error:
        what = traceback.format_exc() if node is not None else f"{type(error).__name__}: {error}"
        print(what, file=sys.stderr)
    finally:
        if node is not None:
            _finish(node)
        rclpy.try_shutdown()
    return status


def _spin(node: Node, stop: StopSignal) -> int:
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    failures: list[BaseException] = []

    def work() -> None:
        try:
            while not stop.asked:
                executor.spin_once()
            _leave(node, executor)
        except BaseException as error:
            failures.append(error)
            node.get_logger().fatal("".join(traceback.format_exception(error)))
        finally:
            stop.ask()

    thread = threading.Thread(target=work, name="spin")
    thread.start()
    stop.wait()
    executor.create_task(lambda: None)  # something to do, so that spin_once returns
    thread.join()
    executor.remove_node(node)
    executor.shutdown()
    return 1 if failures else 0


def serve_until(executor: Executor, ready: Callable[[], Any], patience: float) -> bool:
    """Serve callbacks until ``ready()``; False when it is not within ``patience`` s on the wall, or ROS went down."""
    deadline = time.monotonic() + patience
    while not ready():
        if time.monotonic() > deadline or not executor.context.ok():
            return False
        executor.spin_once(timeout_sec=0.05)
    return True


def _leave(node: Node, executor: SingleThreadedExecutor) -> None:
    """Shut down while answers can still be sent, and send them."""
    _shut_down(node)
    if not isinstance(node, LifecycleNode) or not node.owes():
        return
    serve_until(executor, lambda: not node.owes(), FAREWELL)
    time.sleep(LINGER)


def _shut_down(node: Node) -> None:
    if isinstance(node, LifecycleNode) and node.state in ("unconfigured", "inactive", "active"):
        node.trigger_shutdown()


def _finish(node: Node) -> None:
    _shut_down(node)
    node.destroy_node()
