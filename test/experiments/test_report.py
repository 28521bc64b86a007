"""Documents, pages and plots: what is missing is named, and the same results give the same bytes."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
from fake_results import write_result
from tiny_experiment import CELLS, experiment

from qt_ros.experiments.cells import all_cells, tuning_cell
from qt_ros.experiments.data_page import data_page
from qt_ros.experiments.pages import page
from qt_ros.experiments.plots import plot
from qt_ros.experiments.report import ReportError, collect_results
from qt_ros.experiments.sanity_page import sanity_page
from qt_ros.experiments.spec import Experiment
from qt_ros.experiments.tuning import collect_trials, tuning_page
from qt_ros.experiments.work import write_json

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"


@pytest.fixture
def given(tmp_path: Path) -> Experiment:
    return experiment(tmp_path / "spec")


def finish(root: Path, given: Experiment, *names: str, successes: int = 50) -> None:
    for cell in all_cells(given):
        if not names or cell.name in names:
            write_result(root, cell, successes + cell.seed)


def test_the_document_has_a_row_for_each_seed_and_mark(tmp_path: Path, given: Experiment) -> None:
    finish(tmp_path, given)
    document = collect_results(given, [tmp_path])
    found = [(r["method"], r["variant"], r["seed"], r["gradient_steps"], r["successes"]) for r in document["rows"]]
    assert found == [
        ("q_transformer", "default", 1, 2, 51), ("q_transformer", "default", 1, 4, 51),
        ("q_transformer", "default", 2, 2, 52), ("q_transformer", "default", 2, 4, 52),
        ("rt1_bc", "successes", 1, 4, 51), ("rt1_bc", "successes", 2, 4, 52),
    ]  # fmt: skip
    assert document["missing"] == []


def test_missing_cells_are_named(tmp_path: Path, given: Experiment) -> None:
    finish(tmp_path, given, "q_transformer/default/2")
    document = collect_results(given, [tmp_path])
    assert [tuple(cell.values()) for cell in document["missing"]] == [
        ("q_transformer", "default", 1), ("rt1_bc", "successes", 1), ("rt1_bc", "successes", 2),
    ]  # fmt: skip
    told = page(document)
    assert "**3 of 4 cells are missing:** q_transformer (seed 1); rt1_bc/successes (seed 1, 2)." in told
    assert "| `q_transformer` | 52.0% |" in told and "| 1 of 2 |" in told


def test_nothing_at_all_is_a_page_too(tmp_path: Path, given: Experiment) -> None:
    document = collect_results(given, [tmp_path])
    assert "**4 of 4 cells are missing:**" in page(document) and ".png" not in page(document)
    plot(document, tmp_path / "none.png")
    assert not (tmp_path / "none.png").exists()


def test_the_page_ranks_pools_seeds_and_says_what_differs(tmp_path: Path, given: Experiment) -> None:
    for cell in all_cells(given):
        good = {4: 30, 2: 10} if cell.spec.method == "q_transformer" else 60
        write_result(tmp_path, cell, good)
    told = page(collect_results(given, [tmp_path]))
    assert told.index("| `rt1_bc/successes` | 60.0% |") < told.index("| `q_transformer` | 30.0% |")
    assert "| `q_transformer` | 2 | 10.0% |" in told
    assert "In the data 8.0% of the episodes succeed." in told
    assert "| 60 / 100 |" in told and "| 120 / 200 |" in told


def test_cells_that_lack_seeds_stand_below_those_that_do_not(tmp_path: Path, given: Experiment) -> None:
    finish(tmp_path, given, "q_transformer/default/2", successes=90)
    finish(tmp_path, given, "rt1_bc/successes/1", "rt1_bc/successes/2", successes=10)
    told = page(collect_results(given, [tmp_path]))
    assert told.index("| `rt1_bc/successes` | 11.5% |") < told.index("| `q_transformer` | 92.0% |")


def test_the_interval_of_two_seeds_of_three_knows_how_they_differ_and_of_one_only_its_scenes(tmp_path: Path) -> None:
    given = experiment(tmp_path / "spec", seeds=[1, 2, 3])
    for cell in all_cells(given):
        if cell.seed < (3 if cell.spec.method == "q_transformer" else 2):
            write_result(tmp_path, cell, 40 + 20 * (cell.seed - 1))
    told = page(collect_results(given, [tmp_path]))
    assert "| 50.0% | 0.0% to 100.0% | 40.0% .. 60.0%, 2 of 3 |" in told, "Student's t, as with all seeds"
    assert "| 40.0% | 30.9% to 49.8% | 1 of 3 |" in told
    assert "of one seed there is Wilson's only" in " ".join(told.split())


def test_the_page_does_not_vouch_for_implementations_that_miss_the_known_answers(tmp_path: Path) -> None:
    given = experiment(tmp_path / "spec")
    finish(tmp_path, given)
    (tmp_path / "sanity.md").write_text("")
    told = page(collect_results(given, [tmp_path], tmp_path / "tiny.json"))
    assert "(sanity.md)" in told and "solves" not in told


def test_the_quickest_seed_and_the_sum_of_all_are_told(tmp_path: Path, given: Experiment) -> None:
    for cell, seconds in zip(all_cells(given), (7200.0, 600.0, 300.0, 900.0), strict=True):
        write_result(tmp_path, cell, 50, train_seconds=seconds)
    told = page(collect_results(given, [tmp_path]))
    assert "| 5.0 min |" in told and "| 10.0 min |" in told
    assert "2.5 hours of training" in told, "a run that is evaluated at two marks is trained once"


def test_a_cell_names_every_commit_that_trained_or_evaluated_it(tmp_path: Path, given: Experiment) -> None:
    by = [{"commit": name, "source": "-"} for name in ("old", "abc")]
    for number, cell in enumerate(all_cells(given)):
        changes = {"trained_by": by, "evaluated_by": {"commit": "new", "source": "-"}} if number == 0 else {}
        write_result(tmp_path, cell, 50, **changes)
    document = collect_results(given, [tmp_path])
    assert [row.get("also_by") for row in document["rows"] if row["seed"] == 1] == [["new", "old"]] * 2 + [None]
    assert "`abc`, also `new`, also `old`" in page(document)


def test_the_same_results_give_the_same_bytes(tmp_path: Path, given: Experiment) -> None:
    finish(tmp_path / "work", given)
    files = []
    for name in ("once", "again"):
        document = collect_results(given, [tmp_path / "work"], tmp_path / "again.json")
        write_json(tmp_path / f"{name}.json", document)
        plot(document, tmp_path / f"{name}.png")
        files.append([(tmp_path / f"{name}.{kind}").read_bytes() for kind in ("json", "png")] + [page(document)])
    document = collect_results(given, [tmp_path / "work"], tmp_path / "again.json")
    assert files[0] == files[1] and page(document) == files[0][2]
    assert page(json.loads(files[0][0])) == files[0][2], "the page follows from the JSON file alone"


def test_results_of_several_machines_are_merged_and_earlier_rows_kept(tmp_path: Path, given: Experiment) -> None:
    finish(tmp_path / "a", given, "q_transformer/default/1")
    finish(tmp_path / "b", given, "q_transformer/default/1", "rt1_bc/successes/1", successes=10)
    document = collect_results(given, [tmp_path / "a", tmp_path / "b"])
    assert [row["successes"] for row in document["rows"]] == [51, 51, 11]
    write_json(tmp_path / "earlier.json", document)
    finish(tmp_path / "c", given, "rt1_bc/successes/1", "rt1_bc/successes/2", successes=20)
    later = collect_results(given, [tmp_path / "c"], tmp_path / "earlier.json")
    assert [row["successes"] for row in later["rows"]] == [51, 51, 21, 22]


def test_an_earlier_row_follows_its_cell_to_another_name_and_is_not_taken_twice(tmp_path: Path) -> None:
    def named(*variants: str) -> Experiment:
        return experiment(tmp_path / variants[-1], seeds=[1], cells=[{**CELLS[1], "variant": v} for v in variants])

    finish(tmp_path / "work", before := named("successes"), "rt1_bc/successes/1")
    write_json(tmp_path / "earlier.json", collect_results(before, [tmp_path / "work"]))
    after = collect_results(named("successes", "renamed"), [], tmp_path / "earlier.json")
    assert [row["variant"] for row in after["rows"]] == ["successes", "renamed"] and after["missing"] == []
    write_json(tmp_path / "both.json", after)
    again = collect_results(named("renamed"), [], tmp_path / "both.json")
    assert [row["variant"] for row in again["rows"]] == ["renamed"]
    assert "| `rt1_bc/renamed` | 51.0% |" in page(again)


def test_the_very_same_run_counts_in_another_experiments_document(tmp_path: Path) -> None:
    def one(name: str, variant: str, **changes: object) -> Experiment:
        cells = [{**CELLS[1], "variant": variant, **changes}]
        return dataclasses.replace(experiment(tmp_path / name, seeds=[1], cells=cells), name=name)

    finish(tmp_path / "work", before := one("before", "successes"), "rt1_bc/successes/1")
    write_json(tmp_path / "docs" / "before.json", collect_results(before, [tmp_path / "work"]))
    write_json(tmp_path / "docs" / "of-something-else.json", {"rows": [{"identity": "?"}]})
    after = collect_results(one("after", "renamed"), [], tmp_path / "docs" / "after.json")
    assert [(row["variant"], row["successes"]) for row in after["rows"]] == [("renamed", 51)]
    other = collect_results(one("other", "renamed", set={"learning_rate": 0.5}), [], tmp_path / "docs" / "other.json")
    assert other["rows"] == [] and len(other["missing"]) == 1


def test_one_perfect_seed_is_drawn(tmp_path: Path) -> None:
    given = experiment(tmp_path / "spec", seeds=[1])
    for cell in all_cells(given):
        write_result(tmp_path, cell, 100)  # whose interval must not end below it
    plot(collect_results(given, [tmp_path]), tmp_path / "perfect.png")
    assert (tmp_path / "perfect.png").exists()


def test_cells_that_learn_from_parts_of_the_data_do_not_look_like_stores_made_twice(tmp_path: Path) -> None:
    cells = [CELLS[1], {**CELLS[1], "variant": "few", "stores": ["demos"]}]
    given = experiment(tmp_path / "spec", cells=cells)
    for cell in all_cells(given):
        hashes = ["1" * 64] if cell.spec.stores else ["1" * 64, "2" * 64]
        write_result(tmp_path, cell, 50, data=[{"manifest_sha256": value} for value in hashes])
    told = page(collect_results(given, [tmp_path]))
    assert "made more than once" not in told and "of the episodes succeed" not in told
    assert "- stores demos (SHA-256 of their manifests): `111111111111`\n" in told
    write_result(tmp_path, all_cells(given)[0], 50, data=[{"manifest_sha256": "3" * 64}])
    told = page(collect_results(given, [tmp_path]))
    assert "made more than once: as many episodes, successes and steps each time" in told
    assert "must not be compared" not in told


@pytest.mark.parametrize("key", ["episodes_in_data", "successes_in_data", "steps_in_data"])
@pytest.mark.parametrize("manifest", ["1" * 64, "3" * 64])
def test_rows_that_learned_from_other_data_are_named_and_not_called_the_same_episodes(
    tmp_path: Path, given: Experiment, key: str, manifest: str
) -> None:
    """Other counts come of another manifest, and of the same one where shards could not be read."""
    finish(tmp_path, given)
    write_result(tmp_path, all_cells(given)[0], 50, data=[{"manifest_sha256": manifest}], **{key: 77})
    told = page(collect_results(given, [tmp_path]))
    assert "**Not all rows learned from the same data, and those that did not must not be compared:**" in told
    counts = {"episodes_in_data": 1000, "successes_in_data": 80, "steps_in_data": 9000, key: 77}
    other = "{} episodes with {} successes and {} steps for q_transformer (seed 1)".format(*counts.values())
    assert other in told and "9000 steps for q_transformer (seed 2); rt1_bc/successes (seed 1, 2)" in told
    assert "as many episodes, successes and steps" not in told
    assert ("made more than once: not the same data each time" in told) == (manifest != "1" * 64)


def test_results_of_other_settings_count_as_missing(tmp_path: Path, given: Experiment) -> None:
    finish(tmp_path, given)
    write_json(tmp_path / "earlier.json", collect_results(given, [tmp_path]))
    changed = experiment(tmp_path / "spec", budget={**given.budget, "batch": 5})
    document = collect_results(changed, [tmp_path], tmp_path / "earlier.json")
    assert document["rows"] == [] and len(document["missing"]) == 4


def test_a_result_of_another_version_is_named(tmp_path: Path, given: Experiment) -> None:
    cell = all_cells(given)[0]
    write_json(write_result(tmp_path, cell, 3), {"identity": cell.identity})
    with pytest.raises(ReportError, match="run the cell again"):
        collect_results(given, [tmp_path])


def test_what_was_tried_is_noted_and_stays(tmp_path: Path, given: Experiment) -> None:
    bc = given.cells[1]
    for trial, good in (({}, 20), ({"learning_rate": 0.01}, 30)):
        write_result(tmp_path / "a", tuning_cell(given, bc, trial), good)
    document = collect_trials(given, [tmp_path / "a"])
    write_json(tmp_path / "trials.json", document)
    assert [(row["trial"], row["successes"]) for row in document["rows"]] == [({"learning_rate": 0.01}, 30), ({}, 20)]
    write_result(tmp_path / "b", tuning_cell(given, given.cells[0], {"loss.alpha": 3.0}), 40)
    later = collect_trials(given, [tmp_path / "b"], tmp_path / "trials.json")
    assert [row["method"] for row in later["rows"]] == ["q_transformer", "rt1_bc", "rt1_bc"]
    told = tuning_page(later)
    assert "| `rt1_bc/successes` | 2 |" in told and "| `q_transformer` | `loss.alpha: 3.0` | 40.0% |" in told
    assert all(row["first_scene"] == 1000000 and row["seed"] == 0 for row in later["rows"])


def test_a_trial_says_what_it_had_where_another_trial_tries_something(tmp_path: Path, given: Experiment) -> None:
    for trial, settings in (({"loss.alpha": 3.0}, {"learning_rate": 0.01}), ({"learning_rate": 0.02}, {})):
        settings = {"loss": {"alpha": 1.0}, **settings, **trial} if settings else {"loss": {"alpha": 9.0}, **trial}
        write_result(tmp_path, tuning_cell(given, given.cells[0], trial), 40, settings=settings)
    told = tuning_page(collect_trials(given, [tmp_path]))
    assert "`loss.alpha: 3.0`, `learning_rate: 0.01`" in told, "whatever is configured by now"
    assert "`learning_rate: 0.02`, `loss.alpha: 9.0`" in told


@pytest.mark.parametrize("path", sorted(RESULTS.glob("*.json")), ids=lambda path: path.name)
def test_committed_pages_follow_from_their_json(path: Path) -> None:
    document = json.loads(path.read_text(encoding="utf-8"))
    kinds = {"experiment": page, "tuning_of": tuning_page, "parts": data_page, "sanity": sanity_page}
    make = next((make for key, make in kinds.items() if key in document and "benchmark" not in document), None)
    if make is not None:
        assert path.with_suffix(".md").read_text(encoding="utf-8") == make(document)
