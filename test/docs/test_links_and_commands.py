"""What the documentation says to open exists, and what it says to type works."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest

from qt_ros.cli.main import available, main

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(path for path in (*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")) if not path.is_symlink())
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
OUTSIDE = ("http://", "https://", "mailto:")
FENCE = re.compile(r"^```(?:bash|console|sh)\n(.*?)^```", re.DOTALL | re.MULTILINE)
GROUPS = ("episodes", "improve", "contract", "security")
INLINE = re.compile(r"`([^`\n]+)`")


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    heads = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


def lines_of_code(page: Path) -> list[str]:
    """Every line of every shell block, and everything in back-ticks; continued lines joined, comments left out."""
    text = page.read_text(encoding="utf-8")
    blocks = "\n".join(FENCE.findall(text)).replace("\\\n", " ").splitlines()
    rest = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
    return [line.split(" #")[0].strip() for line in (*blocks, *INLINE.findall(rest))]


def commands() -> list[str]:
    """Every distinct `qt-ros ...` of the documentation."""
    found = {line for page in PAGES for line in lines_of_code(page) if line.startswith("qt-ros ")}
    return sorted(found)


def test_there_are_pages_and_commands_to_check() -> None:
    assert len(PAGES) >= 10
    assert len(commands()) >= 10


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_no_page_has_a_hole_that_was_to_be_filled_in(page: Path) -> None:
    assert re.findall(r"@[A-Z_]+@", page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    lost = []
    for target in LINK.findall(page.read_text(encoding="utf-8")):
        if target.startswith(OUTSIDE):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        if not path.exists() or (anchor and anchor not in anchors(path)):
            lost.append(target)
    assert lost == []


@pytest.mark.parametrize("line", commands())
def test_every_command_and_each_of_its_options_is_known(
    line: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    words = shlex.split(line.replace("<", "").replace(">", ""))[1:]
    if words[0] in ("--help", "--version", "command"):
        return
    assert words[0] in available(), f"`{line}`: no such command"
    path = words[:2] if words[0] in GROUPS and len(words) > 1 and not words[1].startswith("-") else words[:1]
    status = main([*path, "--help"])
    shown = capsys.readouterr().out
    assert status == 0, f"`qt-ros {' '.join(path)} --help` fails"
    unknown = [w for w in words if w.startswith("--") and w.split("=")[0] not in shown]
    assert unknown == [], f"`{line}`: unknown options"


def test_the_readme_shows_the_recipe_of_the_shipped_checkpoint() -> None:
    script = (ROOT / "tools" / "make_checkpoint.sh").read_text(encoding="utf-8")
    script = script.replace('"', "").replace("$work", "outputs/skills").replace(" --device $device", "")
    recipe = [line.split(" #")[0].strip() for line in script.splitlines() if line.startswith("qt-ros")]
    shown = [line for line in lines_of_code(ROOT / "README.md") if line.startswith("qt-ros")]
    assert len(recipe) == 9
    start = shown.index(recipe[0])
    assert shown[start : start + 9] == recipe


def test_every_make_target_and_script_that_is_named_exists() -> None:
    targets = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    missing = []
    for page in PAGES:
        for line in lines_of_code(page):
            words = line.split()
            if words[:1] == ["make"] and len(words) > 1 and words[1] not in targets:
                missing.append(f"{page.name}: {line}")
            if (
                words[:1] == ["python"]
                and len(words) > 1
                and words[1].endswith(".py")
                and not (ROOT / words[1]).is_file()
            ):
                missing.append(f"{page.name}: {line}")
    assert missing == []


def test_pictures_are_small_and_tracked_or_new() -> None:
    pictures = [path for path in (ROOT / "docs").rglob("*") if path.suffix in (".png", ".jpg")]
    assert pictures
    assert [str(p) for p in pictures if p.stat().st_size > 300_000] == []
    ignored = subprocess.run(["git", "check-ignore", *map(str, pictures)], cwd=ROOT, capture_output=True, text=True)
    assert ignored.stdout == ""


def test_the_first_line_of_the_readme_says_what_qt_means() -> None:
    first = (ROOT / "README.md").read_text(encoding="utf-8").splitlines()[0]
    assert "Q-Transformer" in first and "QT" in first
