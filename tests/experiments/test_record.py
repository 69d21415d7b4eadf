"""Cells measured on one machine are in the table that another writes."""

import numpy as np
import pytest

from experiments import cells, grid, record, results, run
from kd_tf.errors import UserError
from tests.experiments.conftest import perfect
from tests.experiments.test_run import PROGRAM

BOTH = "| both, 20 % | .450 ± .071 | - | 0, 1 |"
DIFFERENCE = "| both, 20 % - labels, 20 % | +1.000 | +1.000 to +1.000 | +1.000 +1.000 |"


def _on(machine, place):
    """The grid as one machine sees it, with a runs folder of its own."""
    found = grid.load(str(place / "question"))
    return found, cells.cells(found, runs_folder=str(place / machine))


def _run_seed(machine, seed, place):
    found, made = _on(machine, place)
    own = [cell for cell in made if cell.seed == seed]
    assert run.run_grid(found, own, program=PROGRAM, say=lambda _: None) == []
    perfect(own[-1])
    said = []
    results.write(found, made, command="x", say=said.append)
    return (place / "question" / "RESULTS.md").read_text(), said


def test_a_seed_of_another_machine_joins_the_table(place):
    text, said = _run_seed("here", 0, place)
    assert "| both, 20 % | .400 | - | 0 |" in text and said == []
    text, said = _run_seed("there", 1, place)
    assert said == []
    assert BOTH in text and DIFFERENCE in text
    assert "4 of 4 cells have run" in text and "commit c0ffee" in text
    # Nothing of either machine is here: the table is the same.
    found, made = _on("nowhere", place)
    results.write(found, made, command="x", say=said.append)
    assert (place / "question" / "RESULTS.md").read_text() == text and said == []


def test_the_record_is_what_was_measured(place):
    _run_seed("here", 0, place)
    found, made = _on("here", place)
    measured, lost = record.gather(found, made)
    recorded, _ = record.gather(*_on("nowhere", place))
    assert lost == [] and list(recorded) == ["shared, seed 0", "part, seed 0"]
    part, told = measured["part, seed 0"], recorded["part, seed 0"]
    assert (told.settings, told.scored_on, told.rows) == (part.settings, part.scored_on, part.rows)
    assert told.scored_on == ("scenes:eval?num=4&size=64", 4)
    assert set(told.resampled) == {"both, 20 %", "labels, 20 %"}
    for row, values in told.resampled.items():
        assert values.shape == (1001,)
        np.testing.assert_array_equal(values, part.resampled[row])


def test_cells_of_other_settings_leave_the_table_and_are_named(place):
    _run_seed("here", 0, place)
    path = place / "question" / "flags.txt"
    path.write_text(path.read_text().replace("finetune_steps=25", "finetune_steps=30"))
    text, said = _run_seed("there", 1, place)
    assert "| both, 20 % | .500 | - | 1 |" in text
    assert len(said) == 1 and "measured with other settings" in said[0]
    assert said[0].endswith(": both, 20 % (part, seed 0); labels, 20 % (part, seed 0)")


def test_rows_scored_on_different_images_are_not_compared(place):
    grid_path = place / "question" / "grid.toml"
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
    grid_path.write_text(grid_path.read_text() + other)
    found, made = _on("here", place)
    assert run.run_grid(found, made, program=PROGRAM, say=lambda _: None) == []
    with pytest.raises(UserError, match=r"different images \(2 of scenes:eval.*4 of scenes:eval"):
        results.write(found, made, command="x")
