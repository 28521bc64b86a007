"""Finding an OpenGL backend that renders, by rendering."""

from __future__ import annotations

import pytest

from qt_ros.sim import gl


def test_some_backend_renders_here_and_says_with_what() -> None:
    backend, trials = gl.find_backend()
    assert backend in gl.BACKENDS
    assert trials[-1].works and trials[-1].backend == backend and trials[-1].renderer


def test_a_backend_that_does_not_exist_fails_with_a_reason() -> None:
    trial = gl.try_backend("nonesuch")
    assert not trial.works
    assert "nonesuch" in trial.error


def test_the_command_prints_the_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert gl.main([]) == 0
    assert capsys.readouterr().out.strip() in gl.BACKENDS


def test_the_command_fails_and_lists_every_trial_when_none_renders(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gl, "BACKENDS", ("nonesuch", "nope"))
    assert gl.main([]) == 1
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "nonesuch:" in captured.err and "nope:" in captured.err
