"""Cuts COCO's training images: validation apart, and files of ids for shares of the labels.

    python -m experiments.coco.split --coco=DIR

writes DIR/kd_tf/train.json and val.json, cut from instances_train2017.json, and ids_1.txt,
ids_5.txt, ids_10.txt (percent of the images of train.json; the smaller lie in the larger).
"""

import argparse
import json
import pathlib
from collections.abc import Sequence

import numpy as np

NUM_VAL = 2000
PERCENTS = (1, 5, 10)


def split(instances: dict, *, num_val: int, seed: int) -> tuple[dict, dict]:
    """The annotation file as two, with the images of the second drawn at random.

    Args:
        instances: Content of a COCO instances file.
        num_val: Images of the second part.
        seed: Of the draw.

    Returns:
        The training and the validation part; categories and ids stay.
    """
    ids = sorted(image["id"] for image in instances["images"])
    chosen = set(np.random.default_rng(seed).permutation(ids)[:num_val].tolist())
    return _part(instances, set(ids) - chosen), _part(instances, chosen)


def shares(train: dict, *, percents: Sequence[int], seed: int) -> dict[int, list[int]]:
    """Percent -> sorted ids of that share of the images, at least one; nested."""
    ids = sorted(image["id"] for image in train["images"])
    order = np.random.default_rng(seed + 1).permutation(ids)
    return {p: sorted(order[: max(1, round(len(ids) * p / 100))].tolist()) for p in percents}


def _part(instances: dict, ids: set[int]) -> dict:
    rest = {k: v for k, v in instances.items() if k not in ("images", "annotations")}
    return {
        **rest,
        "images": [one for one in instances["images"] if one["id"] in ids],
        "annotations": [one for one in instances["annotations"] if one["image_id"] in ids],
    }


def main(argv: Sequence[str] | None = None) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--coco", required=True, help="folder with annotations/")
    parser.add_argument("--num_val", type=int, default=NUM_VAL)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args(argv)
    root = pathlib.Path(given.coco)
    source = root / "annotations" / "instances_train2017.json"
    train, val = split(json.loads(source.read_text()), num_val=given.num_val, seed=given.seed)
    target = root / "kd_tf"
    target.mkdir(exist_ok=True)
    (target / "train.json").write_text(json.dumps(train))
    (target / "val.json").write_text(json.dumps(val))
    for percent, ids in shares(train, percents=PERCENTS, seed=given.seed).items():
        (target / f"ids_{percent}.txt").write_text("".join(f"{one}\n" for one in ids))
    print(f"{target}: {len(train['images'])} images to train on, {len(val['images'])} to validate")


if __name__ == "__main__":
    main()
