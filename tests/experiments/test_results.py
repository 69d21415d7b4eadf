import json

import pytest

from experiments import cells, claims, grid, record, results, runner, student_t
from tests.experiments.conftest import perfect
from tests.experiments.test_grid import BORROWS
from tests.experiments.test_run import PROGRAM


def _load(place):
    found = grid.load(str(place / "question"))
    return found, cells.cells(found, runs_folder=str(place / "runs"))


def test_write_before_any_run_says_not_run_yet(place):
    found, made = _load(place)
    paths = results.write(found, made, command="the command")
    text = (place / "question" / "RESULTS.md").read_text()
    assert paths == [str(place / "question" / name) for name in ("RESULTS.md", "results.json")]
    assert text.startswith("# Does it?\n")
    assert "    the command" in text
    assert "| both, 20 % | not run yet | not run yet | - | - |" in text
    assert "| both, 20 % - labels, 20 % | not run yet | - | - | - | - |" in text
    assert "None of the 4 cells has run yet." in text


def test_write_after_all_gives_table_difference_and_figure(place):
    found, made = _load(place)
    assert runner.run_grid(found, made, program=PROGRAM, say=lambda _: None) == []
    for cell in made[2:]:
        perfect(cell)
    (place / "question" / "RESULTS.md").write_text("# Mine\n\nbefore\n\nafter\n")
    results.write(found, made, command="the command")
    text = (place / "question" / "RESULTS.md").read_text()
    assert text.startswith("# Mine\n\nbefore\n\nafter\n")
    # The stub: .4 and .5 with the seeds 0 and 1; deviation .1 / sqrt(2) = .0707.
    assert "| both, 20 % | .450 ± .071 | - | - | 0, 1 |" in text
    # Every object found against none: AP 1 and 0, on every resample.
    line = "| both, 20 % - labels, 20 % | +1.000 | +1.000 to +1.000 | - | +1.000 +1.000 | 0, 1 |"
    assert line in text
    assert "4 of 4 cells have run" in text and "commit c0ffee" in text
    numbers = json.loads((place / "question" / "results.json").read_text())
    assert [one["by_seed"] for one in numbers["differences"]] == [[1.0, 1.0]]
    assert (place / "question" / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_a_row_tells_the_validation_that_chose_its_weights(place):
    found, made = _load(place)
    assert runner.run_grid(found, made, program=PROGRAM, say=lambda _: None) == []
    points = {"finetune": [(0, 0.4), (5, 0.3)], "baseline": [(5, 0.1), (10, 0.3), (15, 0.3)]}
    for stage, curve in points.items():
        for cell in made[2:]:
            lines = [json.dumps({"step": step, "val_ap": ap}) for step, ap in curve]
            (cell.folder / stage / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    results.write(found, made, command="x")
    text = (place / "question" / "RESULTS.md").read_text()
    assert "| both, 20 % | .450 ± .071 | - | .400 ± .000 | 0, 1 |" in text
    assert "| labels, 20 % | .250 ± .071 | - | .300 ± .000 | 0, 1 |" in text
    assert "pre-trained weights: both, 20 % (seed 0); both, 20 % (seed 1).\n" in text


def test_interval_over_seeds_is_students():
    # 97.5 % of Student's t with two degrees of freedom: 4.303.
    low, high = student_t.over_seeds([0.1, 0.2, 0.3])
    assert low == pytest.approx(0.2 - 4.303 * 0.1 / 3**0.5, abs=1e-4)
    assert high == pytest.approx(0.2 + 4.303 * 0.1 / 3**0.5, abs=1e-4)
    assert student_t.over_seeds([0.1, 0.3]) is None


def test_write_has_no_rows_of_the_experiment_it_builds_on(place):
    (place / "borrowing").mkdir()
    (place / "borrowing" / "grid.toml").write_text(BORROWS)
    found = grid.load(str(place / "borrowing"))
    made = cells.cells(found, runs_folder=str(place / "runs"))
    assert runner.run_grid(found, made, program=PROGRAM, say=lambda _: None) == []
    results.write(found, made, command="the command")
    text = (place / "borrowing" / "RESULTS.md").read_text()
    assert "| labels | .200 | - | - | 0 |" in text
    assert "both" not in text
    assert "1 of 1 cells have run" in text


def test_claims_are_the_differences_with_a_headline(place):
    path = place / "question" / "grid.toml"
    row = 'b = "labels, 20 %"\n'
    assert row in path.read_text()
    path.write_text(path.read_text().replace(row, row + 'headline = "It helps"\n'))
    assert claims.collect(place) == []
    difference = {"a": "both, 20 %", "b": "labels, 20 %", "mean": 0.1, "interval": [0.0, 0.2]}
    difference |= {"seeds": [0, 1, 2], "by_seed": [0.1, 0.0, 0.2], "over_seeds": [-0.1, 0.3]}
    other = difference | {"a": "elsewhere"}
    numbers = {"differences": [other, difference]}
    (place / "question" / "results.json").write_text(json.dumps(numbers))
    assert claims.collect(place) == [("It helps", difference)]
    claims.draw(claims.collect(place), path=str(place / "claims.png"))
    assert (place / "claims.png").read_bytes()[:4] == b"\x89PNG"


def test_write_again_changes_only_what_is_between_the_marks(place):
    found, made = _load(place)
    path = place / "question" / "RESULTS.md"
    path.write_text(f"# Mine\n\nbefore\n\n{results.BEGIN}\nold\n{results.END}\n\nafter\n")
    results.write(found, made, command="x")
    text = path.read_text()
    assert text.startswith("# Mine\n\nbefore\n\n") and text.endswith("\n\nafter\n")
    assert "old" not in text
    results.write(found, made, command="x")
    assert path.read_text() == text


def test_curves_are_the_validations_of_the_run_that_asks(place):
    path = place / "question" / "grid.toml"
    path.write_text(
        path.read_text().replace('point = "20 %"', 'point = "20 %"\ncurve = "baseline"')
    )
    found, made = _load(place)
    made = [cell for cell in made if cell.seed == 0]
    assert runner.run_grid(found, made, program=PROGRAM, say=lambda _: None) == []
    (made[1].folder / "baseline" / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 2.0}\n{"step": 5, "val_ap": 0.1}\n{"step": 10, "val_ap": 0.3}\n'
    )
    paths = results.write(found, made, command="x")
    assert str(place / "question" / "curve.png") in paths
    assert (place / "question" / "curve.png").read_bytes()[:4] == b"\x89PNG"
    measured = record.gather(found, made)
    assert measured["part, seed 0"].curves == {"baseline": [(5, 0.1), (10, 0.3)]}
    assert measured["shared, seed 0"].curves == {}
