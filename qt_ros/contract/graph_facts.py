"""What was seen of a running robot, as plain data: filled by the live probe, read by the comparison and the draft."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any


@dataclass
class Endpoint:
    """A publisher or subscription: its node, and its quality of service in the words of a bag's metadata.

    ``demand``: what else it offers or, as a subscription, insists on (a deadline); '' for the usual nothing.
    """

    node: str
    type: str
    reliability: str = "unknown"
    durability: str = "unknown"
    demand: str = ""


@dataclass
class Heard:
    """Messages of one topic while it was listened to.

    ``rate`` in Hz over the stamps (over receipt where there are none), ``gap`` the largest time between two in s, both
    None below three messages; ``age`` the median of receipt minus stamp in s on the node's clock. ``details``:
    image: encodings, sizes [(width, height)]; joint states: joints, positions {joint: rad or m}.
    """

    count: int = 0
    rate: float | None = None
    gap: float | None = None
    age: float | None = None
    frames: tuple[str, ...] = ()
    details: dict[str, Any] = field(default_factory=dict)
    problems: tuple[str, ...] = ()


@dataclass
class Topic:
    """One topic of the graph."""

    name: str
    publishers: list[Endpoint] = field(default_factory=list)
    subscriptions: list[Endpoint] = field(default_factory=list)
    heard: Heard | None = None

    @property
    def types(self) -> list[str]:
        """All types that somebody publishes or subscribes it with."""
        return sorted({e.type for e in (*self.publishers, *self.subscriptions)})


@dataclass
class GraphFacts:
    """A running graph: ``topics``, ``services`` and ``actions`` (with their types) by absolute name.

    ``seconds`` of listening; ``clock`` is the node that publishes the clock (in the namespace, else /clock), or ''.
    ``controllers``: the joints that controllers say they own, by node, in their order. ``urdf``: the description that
    was heard.
    """

    namespace: str = "/"
    seconds: float = 0.0
    use_sim_time: bool = False
    clock: str = ""
    topics: dict[str, Topic] = field(default_factory=dict)
    services: dict[str, str] = field(default_factory=dict)
    actions: dict[str, str] = field(default_factory=dict)
    controllers: dict[str, list[str]] = field(default_factory=dict)
    urdf: str = ""

    def topic(self, name: str) -> Topic | None:
        """By the contract's name or the absolute one."""
        return self.topics.get(self.resolve(name))

    def resolve(self, name: str) -> str:
        """Absolute name of a contract's name, in this namespace."""
        if name.startswith("/"):
            return name
        return "/" + "/".join(p for p in (self.namespace.strip("/"), name) if p)

    def within(self, name: str) -> bool:
        """Whether an absolute name lies in this namespace."""
        return name.startswith(self.namespace.rstrip("/") + "/")

    def owner(self, topic: Topic) -> str:
        """Among a topic's takers, the controller that says which joints it owns; '' when none does."""
        return next((e.node for e in topic.subscriptions if self.controllers.get(e.node)), "")

    def elsewhere(self, type_name: str, publishing: bool) -> list[str]:
        """Topics of ``type_name`` that somebody publishes (or subscribes to): what may be meant instead."""
        return sorted(
            t.name
            for t in self.topics.values()
            if any(e.type == type_name for e in (t.publishers if publishing else t.subscriptions))
        )
