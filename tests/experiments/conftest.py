import json

import pytest

from experiments import cells
from kd_tf.data.scenes import CLASS_NAMES, scene_labels
from tests.experiments.test_grid import FLAGS, GRID

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


def perfect(cell) -> None:
    """Gives finetune, where it was scored, every object, with its exact box."""
    told = []
    for index in range(4):
        labels = scene_labels(seed=0, index=index, size=64, split="eval")
        for (x1, y1, x2, y2), kind in zip(labels.boxes.tolist(), labels.classes, strict=True):
            box = [x1, y1, x2 - x1, y2 - y1]
            told.append({"image_id": index, "category_id": int(kind) + 1, "bbox": box, "score": 1})
    metrics = json.loads((cell.folder / cells.METRICS).read_text())
    for model in metrics["models"].values():
        model["per_class"] = dict.fromkeys(CLASS_NAMES) | model["per_class"]
    (cell.folder / cells.METRICS).write_text(json.dumps(metrics))
    path = cell.folder / "evaluate/finetune/detections.json"
    if path.is_file():
        path.write_text(json.dumps(told))
