"""Whether somebody obeys what policy_node decides: command_node says so with every command_status."""

from __future__ import annotations

import math


class Obedience:
    """Times are monotonic s; ``timeout``: longest silence of command_node in s.

    With ``shadow`` nobody need obey: command_node is missed only once it was heard, until it was found silent.
    """

    def __init__(self, timeout: float, shadow: bool = False) -> None:
        self.timeout, self._shadow = timeout, shadow
        self._heard = math.inf  # or the activation; infinite: nothing is awaited

    def begin(self, now: float) -> None:
        """From now on command_node is awaited: somebody may act, or acts."""
        self._heard = math.inf if self._shadow else now

    def heard(self, now: float) -> None:
        """command_node said how things stand."""
        self._heard = now

    def silent(self, now: float) -> bool:
        """Whether nobody would obey."""
        return now - self._heard > self.timeout

    def missed(self) -> None:
        """Its silence ended what had to be ended."""
        if self._shadow:
            self._heard = math.inf  # until it comes back

    def problem(self, now: float, there: bool) -> str:
        """Why no episode may begin, or '': it would be recorded, and learned from, as if it had been executed.

        ``there``: whether a command_node is known to the middleware. It may have come just now and not be heard yet, or
        have been killed: the episode that begins then awaits it anew, and ends if it stays silent.
        """
        if there or not self.silent(now):
            return ""
        return f"nothing from command_node for {self.timeout:g} s, so nobody would obey; is it alive and active?"
