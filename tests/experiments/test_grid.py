import pathlib

import pytest

from experiments import cells, grid, pricing
from kd_tf.errors import UserError
from tests.experiments import stub

GRID = """
question = "Does it?"
flagfile = "flags.txt"
seeds = [0, 1]
[price]
images_per_s = { yolov8_tiny = 50, yolov8_xs = 25 }
other_s = 10
[[run]]
name = "shared"
stages = ["teacher", "pseudo", "pretrain"]
[[run]]
name = "part"
parent = "shared"
flags = ["--label_fraction=0.2", "--teacher=keras:{shared}/teacher/model.keras"]
stages = ["finetune", "baseline", "evaluate"]
seeds = [0]
point = "20 %"
show = { finetune = "both", baseline = "labels" }
[[compare]]
a = "both, 20 %"
b = "labels, 20 %"
"""
FLAGS = """# a comment
--eval_data=scenes:eval?num=4&size=64
--teacher_steps=100
--pretrain_steps=50
--finetune_steps=25
--batch_size=10
--teacher_batch_size=5
"""


# An experiment beside it, which goes on from one of its runs.
BORROWS = """
question = "And then?"
flagfile = "../question/flags.txt"
seeds = [0]
[price]
images_per_s = { yolov8_tiny = 50 }
other_s = 10
[[run]]
name = "part"
parent = "question/part"
take = ["labeled", "baseline"]
stages = ["evaluate"]
show = { baseline = "labels" }
"""


@pytest.fixture
def folder(tmp_path):
    place = tmp_path / "question"
    place.mkdir()
    (place / "grid.toml").write_text(GRID)
    (place / "flags.txt").write_text(FLAGS)
    return place


def test_load_gives_runs_in_order_and_what_they_take(folder):
    found = grid.load(str(folder))
    assert [run.name for run in found.runs] == ["shared", "part"]
    assert found.flags[0] == "--eval_data=scenes:eval?num=4&size=64"
    # All that may be taken, but its own stage finetune.
    assert found.run("part").take == (
        *("labeled", "teacher", "predictions", "validation", "pseudo", "pretrain"),
    )
    assert found.run("part").row("baseline") == "labels, 20 %"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("seeds = [0, 1]", "seed = [0]", "unknown key 'seed'.*'seeds'", id="key"),
        pytest.param("question =", "# question =", "lacks 'question'", id="no_question"),
        pytest.param("[price]", "[price", "is not TOML", id="toml"),
        pytest.param("flags.txt", "flag.txt", "flag.txt does not exist", id="flagfile"),
        pytest.param('"pretrain"]', '"pretain"]', "'pretain' is unknown.*'pretrain'", id="stage"),
        pytest.param('parent = "shared"', 'parent = "sahred"', "not a run above it", id="parent"),
        pytest.param("{shared}", "{later}", "builds on 'later'", id="placeholder"),
        pytest.param("seeds = [0]", "seeds = [7]", r"'shared' lacks its seeds \[7\]", id="seeds"),
        pytest.param('"evaluate"]', '"baseline"]', "must end with evaluate", id="not_scored"),
        pytest.param('a = "both, 20 %"', 'a = "both"', "row 'both' is unknown", id="compare"),
        pytest.param('= "labels" }', '= "both" }', "two rows .* 'both, 20 %'", id="same_row"),
        pytest.param('stages = ["teacher", "pseudo", "pretrain"]', "", "lacks stages", id="stages"),
    ],
)  # fmt: skip
def test_load_refuses_by_name(folder, old, new, message):
    assert old in GRID
    (folder / "grid.toml").write_text(GRID.replace(old, new))
    with pytest.raises(UserError, match=message):
        grid.load(str(folder))


def test_load_without_a_grid_says_so(tmp_path):
    with pytest.raises(UserError, match=r"holds no grid\.toml"):
        grid.load(str(tmp_path))


def test_load_refuses_to_compare_labels_that_have_their_own_images(folder):
    (folder / "grid.toml").write_text(GRID.replace("finetune = ", "pseudo_labels = "))
    with pytest.raises(UserError, match="row 'both, 20 %' is unknown"):
        grid.load(str(folder))


def test_models_hold_the_pseudo_labels_where_they_were_scored(folder):
    cell = cells.cells(grid.load(str(folder)), runs_folder=str(folder / "runs"))[0]
    assert cell.models() == {}
    path = cell.folder / cells.METRICS
    path.parent.mkdir(parents=True)
    path.write_text('{"models": {"teacher": {"AP": 0.5}}}')
    assert cell.models() == {"teacher": {"AP": 0.5}}
    path.write_text('{"models": {}, "pseudo_labels": {"AP": 0.25}}')
    assert cell.models() == {"pseudo_labels": {"AP": 0.25}}


def test_cells_fill_in_folders_of_the_same_seed(folder):
    made = cells.cells(grid.load(str(folder)), runs_folder="runs")
    assert [cell.name for cell in made] == ["shared, seed 0", "shared, seed 1", "part, seed 0"]
    part = made[2]
    assert part.needs == (made[0],)
    assert part.folder == pathlib.Path("runs/question/part/seed0")
    assert "--teacher=keras:runs/question/shared/seed0/teacher/model.keras" in part.flags
    # The place of the runs decides nothing.
    assert part.wanted == cells.cells(grid.load(str(folder)), runs_folder="other")[2].wanted


@pytest.fixture
def borrowing(folder):
    place = folder.parent / "borrowing"
    place.mkdir()
    (place / "grid.toml").write_text(BORROWS)
    return place


def test_cells_of_another_experiment_come_first_with_what_they_build_on(folder, borrowing):
    made = cells.cells(grid.load(str(borrowing)), runs_folder="runs")
    names = ["question/shared, seed 0", "question/part, seed 0", "part, seed 0"]
    assert [cell.name for cell in made] == names
    assert made[2].needs[0].folder == made[1].folder == pathlib.Path("runs/question/part/seed0")
    # It is that experiment's cell, done with its settings: no work for either is done twice.
    own = cells.cells(grid.load(str(folder)), runs_folder="runs")
    assert made[1].wanted == own[2].wanted


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        pytest.param("question/part", "question/whole", "not a run above it", id="run"),
        pytest.param("question/part", "nothing/part", r"nothing holds no grid\.toml", id="folder"),
        pytest.param("question/part", "borrowing/part", "build on that, not on both", id="itself"),
        pytest.param("seeds = [0]", "seeds = [1]", r"lacks its seeds \[1\]", id="seeds"),
    ],
)
def test_load_refuses_a_wrong_lender(borrowing, old, new, message):
    (borrowing / "grid.toml").write_text(BORROWS.replace(old, new))
    with pytest.raises(UserError, match=message):
        grid.load(str(borrowing))


def test_settings_with_a_wrong_flag_name_the_cell(folder):
    (folder / "flags.txt").write_text(f"{FLAGS}--pretrain_stepps=3\n")
    first = cells.cells(grid.load(str(folder)), runs_folder="runs")[0]
    with pytest.raises(UserError, match=r"shared, seed 0: .*pretrain_stepps"):
        cells.settings(first)


def test_price_from_stated_speed(folder):
    found = grid.load(str(folder))
    made = cells.cells(found, runs_folder=str(folder / "runs"))
    prices = pricing.Prices(found, made)
    # teacher: 100 steps of 5 at 25/s = 20 s; pretrain: 50 of 10 at 50/s = 10 s; pseudo: nothing;
    # and 10 s for each of the three stages.
    assert prices.left(made[0]) == pytest.approx(60.0)
    # finetune 25 of 10 = 5 s; baseline 75 of 10 = 15 s; 10 s for each of three.
    assert prices.left(made[2]) == pytest.approx(50.0)
    text = pricing.table(found, made)
    # 2 x 150 + 25 + 75 steps; 170 s.
    assert "3 cells, 0 done; left: 400 steps, 0.05 hours (partly from the stated" in text


def test_price_goes_with_the_pixels(folder):
    text = GRID.replace("--label_fraction=0.2", "--image_size=320x160")
    (folder / "grid.toml").write_text(text)
    found = grid.load(str(folder))
    made = cells.cells(found, runs_folder=str(folder / "runs"))
    # Twice the pixels of the default, 160x160: 2 x (5 + 15) s; 10 s for each of three stages.
    assert pricing.Prices(found, made).left(made[2]) == pytest.approx(70.0)
    (folder / "flags.txt").write_text(f"{FLAGS}--image_size=320x320\n")
    found = grid.load(str(folder))
    made = cells.cells(found, runs_folder=str(folder / "runs"))
    assert pricing.Prices(found, made).left(made[2]) == pytest.approx(40.0)


def test_price_from_finished_cells(folder):
    found = grid.load(str(folder))
    made = cells.cells(found, runs_folder=str(folder / "runs"))
    for stage in made[0].run.stages:
        stub.finish(made[0].folder / stage, {})
    made[0].note(finished=True, seconds={"teacher": 30.0, "pseudo": 3.0, "pretrain": 12.0})
    prices = pricing.Prices(found, made)
    assert prices.left(made[0]) == 0.0
    assert prices.left(made[1]) == pytest.approx(45.0)


def test_price_without_a_speed_is_refused(folder):
    (folder / "grid.toml").write_text(GRID.replace(", yolov8_xs = 25", ""))
    found = grid.load(str(folder))
    made = cells.cells(found, runs_folder="runs")
    with pytest.raises(UserError, match="images_per_s has no yolov8_xs"):
        pricing.table(found, made)


def test_grids_of_the_project_are_in_order(monkeypatch):
    monkeypatch.setenv("KD_TF_DATA", "/data")
    experiments = pathlib.Path(grid.__file__).parent
    folders = sorted(path.parent for path in experiments.glob("*/grid.toml"))
    assert folders
    for folder in folders:
        found = grid.load(str(folder))
        for cell in cells.cells(found, runs_folder="runs"):
            assert pricing.work(cell)
