"""The emergency stop: pressing latches, releasing alone frees nothing, only a reset does."""

from __future__ import annotations

import math

HELD = 0.5  # s for which a press without a release counts as held; whoever holds it says so several times in that


class EStop:
    """A button, or several ways to press it. Times are seconds of a clock that never stands still.

    With ``timeout`` > 0 s the button must be heard that often: a silent one counts as pressed. Only the button itself
    says whether it is down (`press`); a console's key and a joystick's button latch (`tap`) and say nothing of it, so
    that they neither let go of a button that is down nor stand in for one that is dead.
    """

    def __init__(self, timeout: float = 0.0) -> None:
        self.timeout = timeout
        self.pressed = self.latched = False
        self.cause = ""
        self._heard: float | None = None
        self._tapped = -math.inf

    @property
    def advice(self) -> str:
        """What to do to go on."""
        return "release it and call the reset service" if self.pressed else "call the reset service"

    def press(self, pressed: bool, now: float | None = None) -> None:
        """The state of the button, heard at ``now``."""
        self._heard = now if now is not None else self._heard
        self.pressed = pressed
        if pressed:
            self.trigger("the button is pressed")

    def tap(self, now: float) -> None:
        """A press by what never says that it was let go, heard at ``now``; repeated for as long as it is held."""
        self._tapped = now
        self.trigger("it was pressed at a console or a joystick")

    def trigger(self, cause: str) -> None:
        """Latch it without a button."""
        if not self.latched:
            self.cause = cause
        self.latched = True

    def watch(self, now: float) -> None:
        """Let a silent button count as pressed; call it often. The patience begins with the first call."""
        if self.timeout <= 0.0:
            return
        if self._heard is None:
            self._heard = now
        if now - self._heard > self.timeout:
            self.pressed = True
            self.trigger(f"the button has been silent for more than {self.timeout:g} s")

    def reset(self, now: float = math.inf) -> tuple[bool, str]:
        """Free the latch at ``now``: (done, what to tell)."""
        if self.pressed or now - self._tapped < HELD:
            return False, "the emergency stop is still pressed; release it first"
        was, self.latched, self.cause = self.latched, False, ""
        return True, "emergency stop reset" if was else "the emergency stop was not pressed"
