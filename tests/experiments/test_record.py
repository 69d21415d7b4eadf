"""Cells measured on one machine are in the table that another writes."""

import pytest

from experiments import cells, grid, record, results, runner
from kd_tf.errors import UserError
from tests.experiments.conftest import perfect
from tests.experiments.test_run import PROGRAM

BOTH = "| both, 20 % | .450 ± .071 | - | 0, 1 |"
DIFFERENCE = "| both, 20 % - labels, 20 % | +1.000 | +1.000 to +1.000 | +1.000 +1.000 | 0, 1 |"


def _on(machine, place):
    """The grid as one machine sees it, with a runs folder of its own."""
    found = grid.load(str(place / "question"))
    return found, cells.cells(found, runs_folder=str(place / machine))


def _run_seed(machine, seed, place, **options):
    found, made = _on(machine, place)
    own = [cell for cell in made if cell.seed == seed]
    assert runner.run_grid(found, own, program=PROGRAM, say=lambda _: None) == []
    perfect(own[-1])
    return _write(machine, place, **options)


def _write(machine, place, **options):
    results.write(*_on(machine, place), command="x", **options)
    return (place / "question" / "RESULTS.md").read_text()


def test_a_seed_of_another_machine_joins_the_table(place):
    assert "| both, 20 % | .400 | - | 0 |" in _run_seed("here", 0, place)
    text = _run_seed("there", 1, place)
    assert BOTH in text and DIFFERENCE in text
    assert "4 of 4 cells have run" in text and "commit c0ffee" in text
    # Nothing of either machine is here: the table is the same.
    assert _write("nowhere", place) == text


def test_the_record_is_what_was_measured(place):
    _run_seed("here", 0, place)
    measured, lost = record.gather(*_on("here", place))
    recorded, _ = record.gather(*_on("nowhere", place))
    assert lost == [] and list(recorded) == ["shared, seed 0", "part, seed 0"]
    part, told = measured["part, seed 0"], recorded["part, seed 0"]
    for name in ("settings", "commits", "machine", "scored_on", "curves", "models"):
        assert getattr(told, name) == getattr(part, name)
    assert (told.scored_on.spec, told.scored_on.num_images) == ("scenes:eval?num=4&size=64", 4)
    assert set(told.resampled) == {"finetune", "baseline"}
    for model, values in told.resampled.items():
        assert values.shape == (1001,)
        assert values == pytest.approx(part.resampled[model], abs=1e-7)
    assert told.resampled["finetune"][0] == 1.0


def test_numbers_are_kept_to_the_seventh_digit(place):
    _run_seed("here", 0, place)
    found, made = _on("here", place)
    measured = record.gather(found, made)[0]
    measured["part, seed 0"].resampled["finetune"][5] = 0.123456789
    record.write(found, measured, differences=[])
    told = record.gather(*_on("nowhere", place))[0]["part, seed 0"].resampled["finetune"]
    assert told[5] == pytest.approx(0.123456789, abs=1e-8)


def test_rows_may_be_renamed_and_compared_anew(place):
    _run_seed("here", 0, place)
    path = place / "question" / "grid.toml"
    more = '[[compare]]\na = "alone, 20 %"\nb = "both, 20 %"\n'
    text = path.read_text().replace('baseline = "labels"', 'baseline = "alone"')
    path.write_text(text.replace('b = "labels, 20 %"', 'b = "alone, 20 %"') + more)
    text = _write("nowhere", place)
    assert "| alone, 20 % | .200 | - | 0 |" in text
    assert "| alone, 20 % - both, 20 % | -1.000 | -1.000 to -1.000 | -1.000 | 0 |" in text


def test_cells_of_other_settings_are_not_lost_unless_asked(place):
    before = _run_seed("here", 0, place)
    path = place / "question" / "flags.txt"
    path.write_text(path.read_text().replace("finetune_steps=25", "finetune_steps=30"))
    with pytest.raises(UserError, match=r"other settings.*: shared, seed 0; part, seed 0\. Bring"):
        _run_seed("there", 1, place)
    assert (place / "question" / "RESULTS.md").read_text() == before
    assert "| both, 20 % | .500 | - | 1 |" in _write("there", place, forget=True)


def test_a_changed_file_is_a_changed_setting(place, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("disc\n")
    path = place / "question" / "flags.txt"
    path.write_text(f"{path.read_text()}--classes={names}\n")
    first = _on("here", place)[1][0].wanted
    assert _on("here", place)[1][0].wanted == first
    names.write_text("disc\nring\n")
    assert _on("here", place)[1][0].wanted != first


def test_rows_scored_on_different_images_are_not_compared(place):
    path = place / "question" / "grid.toml"
    other = """[[run]]
name = "other"
parent = "shared"
flags = ["--eval_data=scenes:eval?num=2&size=64"]
stages = ["baseline", "evaluate"]
show = { baseline = "on two images" }
[[compare]]
a = "both, 20 %"
b = "on two images"
"""
    path.write_text(path.read_text() + other)
    found, made = _on("here", place)
    assert runner.run_grid(found, made, program=PROGRAM, say=lambda _: None) == []
    for cell in made:
        if cell.has("evaluate"):
            perfect(cell)
    with pytest.raises(UserError, match=r"different images \(2 of scenes:eval.*4 of scenes:eval"):
        results.write(found, made, command="x")
