"""What tests ask of sim_node and gazebo_node alike."""

from __future__ import annotations

from typing import Protocol

from qt_ros.msg import EpisodeStatus
from qt_ros.nodes.demo_client import GraphClient

PATIENCE = 60.0  # s


class Simulator(Protocol):
    """A simulator's client, and whatever speaks for policy_node."""

    client: GraphClient

    def say(self, episode_id: str, state: int) -> None:
        """Publish the state of an episode."""


def begin(simulator: Simulator, episode_id: str, seed: int) -> None:
    """The episode runs, and the simulator knows: it refuses to set up scene ``seed``."""
    simulator.say(episode_id, EpisodeStatus.STATE_RUNNING)

    def refused() -> bool:
        try:
            simulator.client.reset_scene(seed)
        except RuntimeError as error:
            return f"episode {episode_id} is running" in str(error)
        return False

    simulator.client.wait(refused, PATIENCE, "the simulator to know of the episode")
