import json

import pytest

from experiments import cells, claims, figure, grid, results, run
from kd_tf.data.scenes import CLASS_NAMES, scene_labels
from tests.experiments import stub
from tests.experiments.test_grid import BORROWS, FLAGS, GRID
from tests.experiments.test_run import PROGRAM

FIGURE = '\n[figure]\nx_label = "share"\nlog = true\n'


@pytest.fixture
def place(tmp_path, monkeypatch):
    folder = tmp_path / "question"
    folder.mkdir()
    # Both seeds for the scored run, with a place in the figure.
    text = GRID.replace("seeds = [0]\n", "x = 20\n").replace("[price]", FIGURE + "[price]")
    (folder / "grid.toml").write_text(text)
    (folder / "flags.txt").write_text(FLAGS)
    monkeypatch.setenv("STUB_CALLS", str(tmp_path / "calls.txt"))
    return tmp_path


def _load(place):
    found = grid.load(str(place / "question"))
    return found, cells.cells(found, runs_folder=str(place / "runs"))


def _perfect(cell) -> None:
    """Gives finetune every disc, and nothing else, with its exact box."""
    told = []
    for index in range(4):
        labels = scene_labels(seed=0, index=index, size=64, split="eval")
        for (x1, y1, x2, y2), kind in zip(labels.boxes.tolist(), labels.classes, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            told.append({"image_id": index, "category_id": int(kind) + 1, "bbox": box, "score": 1})
    metrics = json.loads((cell.folder / cells.METRICS).read_text())
    names = dict.fromkeys(CLASS_NAMES)
    for model in metrics["models"].values():
        model["per_class"] = names
    (cell.folder / cells.METRICS).write_text(json.dumps(metrics))
    (cell.folder / "evaluate/finetune/detections.json").write_text(json.dumps(told))


def test_write_before_any_run_says_not_run_yet(place):
    found, made = _load(place)
    paths = results.write(found, made, command="the command")
    text = (place / "question" / "RESULTS.md").read_text()
    assert paths == [str(place / "question" / "RESULTS.md")]
    assert text.startswith("# Does it?\n")
    assert "    the command" in text
    assert "| both, 20 % | not run yet | not run yet | - |" in text
    assert "| both, 20 % - labels, 20 % | not run yet | - | - |" in text
    assert "None of the 4 cells has run yet." in text


def test_write_after_all_gives_table_difference_and_figure(place):
    found, made = _load(place)
    assert run.run_grid(found, made, program=PROGRAM, say=lambda _: None) == []
    for cell in made[2:]:
        _perfect(cell)
    (place / "question" / "RESULTS.md").write_text("# Mine\n\nbefore\n\nafter\n")
    results.write(found, made, command="the command")
    text = (place / "question" / "RESULTS.md").read_text()
    assert text.startswith("# Mine\n\nbefore\n\nafter\n")
    # The stub: .4 and .5 with the seeds 0 and 1; deviation .1 / sqrt(2) = .0707.
    assert "| both, 20 % | .450 ± .071 | - | 0, 1 |" in text
    # Every object found against none: AP 1 and 0, on every resample.
    difference = "| both, 20 % - labels, 20 % | +1.000 | +1.000 to +1.000 | +1.000 +1.000 |"
    assert difference in text
    assert "4 of 4 cells have run" in text and "commit c0ffee" in text
    numbers = json.loads((place / "question" / "results.json").read_text())
    assert [one["AP"] for one in numbers["rows"]["labels, 20 %"]] == [0.2, pytest.approx(0.3)]
    assert (place / "question" / "figure.png").read_bytes()[:4] == b"\x89PNG"


def test_write_has_no_rows_of_the_experiment_it_builds_on(place):
    (place / "borrowing").mkdir()
    (place / "borrowing" / "grid.toml").write_text(BORROWS)
    found = grid.load(str(place / "borrowing"))
    made = cells.cells(found, runs_folder=str(place / "runs"))
    assert run.run_grid(found, made, program=PROGRAM, say=lambda _: None) == []
    results.write(found, made, command="the command")
    text = (place / "borrowing" / "RESULTS.md").read_text()
    assert "| labels | .200 | - | 0 |" in text
    assert "both" not in text
    assert "1 of 1 cells have run" in text


def test_claims_are_the_differences_with_a_headline(place):
    path = place / "question" / "grid.toml"
    row = 'b = "labels, 20 %"\n'
    assert row in path.read_text()
    path.write_text(path.read_text().replace(row, row + 'headline = "It helps"\n'))
    assert claims.collect(place) == []
    difference = {"a": "both, 20 %", "b": "labels, 20 %", "mean": 0.1, "interval": [0.0, 0.2]}
    difference |= {"seeds": [0], "by_seed": [0.1]}
    other = difference | {"a": "elsewhere"}
    numbers = {"rows": {}, "differences": [other, difference]}
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
    made = _load(place)[1]
    assert results.curves(made) == {}
    for stage in made[2].run.stages:
        stub.finish(made[2].folder / stage, {})
    folder = made[2].folder / "baseline"
    (folder / "metrics.jsonl").write_text(
        '{"step": 1, "loss": 2.0}\n{"step": 5, "val_ap": 0.1}\n{"step": 10, "val_ap": 0.3}\n'
    )
    made[2].note(finished=True, seconds={}, core_s={})
    assert results.curves(made) == {"part, seed 0: baseline": [(5, 0.1), (10, 0.3)]}
    figure.draw_curves(results.curves(made), path=str(place / "curve.png"))
    assert (place / "curve.png").read_bytes()[:4] == b"\x89PNG"
