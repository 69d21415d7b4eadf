"""Cells measured on one machine are in the table that another writes."""

import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest

from experiments import cells, grid, record, results, run, runner
from kd_tf.data.scenes import CLASS_NAMES
from kd_tf.errors import UserError
from tests.experiments.conftest import perfect
from tests.experiments.test_run import PROGRAM

BOTH = "| both, 20 % | .450 ± .071 | - | - | 0, 1 |"
DIFFERENCE = "| both, 20 % - labels, 20 % | +1.000 | +1.000 to +1.000 | - | +1.000 +1.000 | 0, 1 |"


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
    assert "| both, 20 % | .400 | - | - | 0 |" in _run_seed("here", 0, place)
    text = _run_seed("there", 1, place)
    assert BOTH in text and DIFFERENCE in text
    assert "4 of 4 cells have run" in text and "commit c0ffee" in text
    # Nothing of either machine is here: the table is the same.
    assert _write("nowhere", place) == text


def test_the_record_is_what_was_measured(place):
    _run_seed("here", 0, place)
    measured = record.gather(*_on("here", place))
    told = record.gather(*_on("nowhere", place))
    assert list(told) == list(measured) == ["shared, seed 0", "part, seed 0"]
    part = told["part, seed 0"]
    assert (part.scored_on.spec, part.scored_on.num_images) == ("scenes:eval?num=4&size=64", 4)
    assert part.models["baseline"] == {"AP": 0.2, "AP50": None}
    assert part.per_class["baseline"] == dict.fromkeys(CLASS_NAMES) | {"disc": 0.2}
    assert part.commits == ("c0ffee",) and " cores (" in part.machine
    assert set(part.resampled) == {"teacher", "pretrain", "finetune", "baseline"}
    assert part.resampled["finetune"].tolist() == [1.0] * 1001
    assert part.resampled["baseline"].tolist() == [0.0] * 1001


def test_numbers_are_kept_to_the_seventh_digit(place):
    _run_seed("here", 0, place)
    path = place / "question" / "record" / "part-seed0.json"
    measured = record._read(path)
    values = np.linspace(0.0, 1.0, 1001) ** 2
    measured.resampled["finetune"] = values
    record._write(path, measured)
    np.testing.assert_allclose(record._read(path).resampled["finetune"], values, rtol=1e-7)


def test_rows_may_be_renamed_and_compared_anew(place):
    _run_seed("here", 0, place)
    path = place / "question" / "grid.toml"
    more = '[[compare]]\na = "alone, 20 %"\nb = "both, 20 %"\n'
    text = path.read_text().replace('baseline = "labels"', 'baseline = "alone"')
    path.write_text(text.replace('b = "labels, 20 %"', 'b = "alone, 20 %"') + more)
    text = _write("nowhere", place)
    assert "| alone, 20 % | .200 | - | - | 0 |" in text
    assert "| alone, 20 % - both, 20 % | -1.000 | -1.000 to -1.000 | - | -1.000 | 0 |" in text


def test_cells_of_other_settings_are_not_lost_unless_asked(place):
    before = _run_seed("here", 0, place)
    path = place / "question" / "flags.txt"
    path.write_text(path.read_text().replace("finetune_steps=25", "finetune_steps=30"))
    with pytest.raises(UserError, match=r"would lose cells.*: part-seed0, shared-seed0\. Run"):
        _run_seed("there", 1, place)
    assert (place / "question" / "RESULTS.md").read_text() == before
    assert "| both, 20 % | .500 | - | - | 1 |" in _write("there", place, forget=True)
    assert len(list((place / "question" / "record").iterdir())) == 2


def test_what_would_be_lost_is_refused_before_anything_runs(place, monkeypatch):
    _run_seed("here", 0, place)
    path = place / "question" / "flags.txt"
    path.write_text(path.read_text().replace("finetune_steps=25", "finetune_steps=30"))
    monkeypatch.setattr(run, "run_grid", lambda *_, **__: pytest.fail("it ran"))
    given = [str(place / "question"), f"--runs={place / 'there'}"]
    with pytest.raises(UserError, match="would lose cells"):
        run.main([*given, "--seeds=1"])
    # These are about to be measured anew.
    found, made = _on("there", place)
    results.refuse_loss(found, made, forget=False, running=made)


def test_a_record_that_cannot_be_read_is_named(place):
    _run_seed("here", 0, place)
    (place / "question" / "record" / "part-seed0.json").write_text("<<<<<<< ours")
    with pytest.raises(UserError, match=r"part-seed0\.json cannot be read .*from git, or remove"):
        _write("nowhere", place)


def test_two_processes_write_one_table_and_the_text_around_it_stays(place):
    path = place / "question" / "RESULTS.md"
    path.write_text("# Mine\n\nbefore\n")
    _run_seed("here", 0, place)
    code = (
        "from experiments import cells, grid, results\n"
        f"found = grid.load({str(place / 'question')!r})\n"
        f"made = cells.cells(found, runs_folder={str(place / 'nowhere')!r})\n"
        "for _ in range(30): results.write(found, made, command='x')\n"
    )
    root = str(pathlib.Path(run.__file__).parent.parent)
    environment = {**os.environ, "PYTHONPATH": root}
    both = [subprocess.Popen([sys.executable, "-c", code], env=environment) for _ in range(2)]
    assert [one.wait(timeout=120) for one in both] == [0, 0]
    assert path.read_text().startswith("# Mine\n\nbefore\n")
    assert "| both, 20 % | .400 | - | - | 0 |" in path.read_text()


def test_data_that_changed_since_are_refused(place):
    _run_seed("here", 0, place)
    path = place / "here/question/part/seed0/evaluate/manifest.json"
    content = json.loads(path.read_text())
    content["identity"]["input: eval_data"] = "other"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match="has changed since the cells here were scored"):
        _write("here", place)


def test_seeds_scored_on_different_images_make_no_row(place):
    _run_seed("here", 0, place)
    _run_seed("here", 1, place)
    path = place / "question" / "record" / "part-seed1.json"
    path.write_text(path.read_text().replace("num=4", "num=5"))
    with pytest.raises(UserError, match=r"'both, 20 %': its seeds were scored on different images"):
        _write("nowhere", place)


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
    with pytest.raises(UserError, match=r"on 4 of scenes:eval.*8 classes and 2 of scenes:"):
        results.write(found, made, command="x")


def test_a_cell_is_not_resampled_again_unless_its_scores_changed(place, monkeypatch):
    _run_seed("here", 0, place)
    path = place / "question" / "record" / "part-seed0.json"
    first, asked = path.read_text(), []

    def resampled(truth, found):
        asked.append(truth)
        return np.full(1001, 0.5)

    monkeypatch.setattr(record, "resampled_ap", resampled)
    _write("here", place)
    assert asked == [] and path.read_text() == first
    metrics = place / "here" / "question" / "part" / "seed0" / "evaluate" / "metrics.json"
    content = json.loads(metrics.read_text())
    content["models"]["finetune"]["per_class"]["disc"] = 0.125
    metrics.write_text(json.dumps(content))
    _write("here", place)
    measured = record._read(path)
    assert measured.per_class["finetune"]["disc"] == 0.125
    assert measured.resampled["finetune"].tolist() == [0.5] * 1001
    assert len(asked) == len(measured.resampled) == 4
