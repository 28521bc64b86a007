"""A missing SDF parser is a reason to skip for a developer, and a failure in CI."""

from __future__ import annotations

from pathlib import Path

import pytest
from sdf_parser import NEEDED, sdf_parser


@pytest.fixture
def without(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.delenv(NEEDED, raising=False)
    return monkeypatch


def test_without_a_parser_a_test_skips_and_says_what_to_install(without: pytest.MonkeyPatch) -> None:
    with pytest.raises(pytest.skip.Exception, match="ignition-tools"):
        sdf_parser()


def test_where_it_is_needed_its_absence_is_a_failure(without: pytest.MonkeyPatch) -> None:
    without.setenv(NEEDED, "1")
    with pytest.raises(pytest.fail.Exception, match="ignition-tools.*could not install"):
        sdf_parser()


def test_ci_needs_it(repository: Path) -> None:
    script = (repository / ".ci" / "run").read_text(encoding="utf-8")
    assert f"export {NEEDED}=1" in script
    assert script.index(NEEDED) < script.index("exec make test")
