"""Small data sets in COCO's format for the tests of this folder, and a source made from one."""

import numpy as np

from kd_tf.data.items import Item, Labels, Source
from kd_tf.geometry.detections import Detections


def source_from_coco(instances: dict, *, name: str = "test") -> Source:
    """A source over COCO instances; independent of kd_tf's own reader."""
    categories = sorted(instances["categories"], key=lambda category: category["id"])
    ids = [category["id"] for category in categories]
    by_image = {image["id"]: [] for image in instances["images"]}
    for annotation in instances["annotations"]:
        by_image[annotation["image_id"]].append(annotation)

    def read_labels(item):
        rows = by_image[item.image_id]
        boxes = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        labels = Labels(
            boxes=boxes.astype(np.float32),
            classes=np.array([ids.index(row["category_id"]) for row in rows], np.int32),
            is_crowd=np.array([row["iscrowd"] for row in rows], bool),
            areas=np.array([row["area"] for row in rows], np.float32),
        )
        return labels, []

    items = [
        Item(
            image["id"],
            image.get("file_name", str(image["id"])),
            image.get("file_name", ""),
            image["height"],
            image["width"],
        )
        for image in instances["images"]
    ]
    names = tuple(category["name"] for category in categories)
    return Source(name, names, items, lambda item: b"", read_labels, (), "0" * 64, tuple(ids))


def coco_dataset(*, num_images: int, names: list[str], ids: list[int] | None = None) -> dict:
    """COCO instances without annotations; image ids have gaps and fall."""
    ids = ids or list(range(1, len(names) + 1))
    return {
        "info": {},
        "images": [
            {"id": 7 * (num_images - index) + 3, "height": 480, "width": 640}
            for index in range(num_images)
        ],
        "categories": [{"id": i, "name": n} for i, n in zip(ids, names, strict=True)],
        "annotations": [],
    }


def annotate(instances: dict, image: int, category_id: int, bbox: list, **extra: object) -> None:
    """Adds one annotation to the image at row `image`; ids start at 0, as in careless files."""
    instances["annotations"].append(
        {
            "id": len(instances["annotations"]),
            "image_id": instances["images"][image]["id"],
            "category_id": category_id,
            "bbox": [float(value) for value in bbox],
            "area": float(bbox[2] * bbox[3]),
            "iscrowd": 0,
            **extra,
        }
    )


def random_dataset(
    seed: int, *, num_images: int = 20, num_classes: int = 4, ids: list[int] | None = None
) -> dict:
    """Images with 0 to 8 objects of all sizes; one in ten is a crowd. Whole pixels."""
    rng = np.random.default_rng(seed)
    names = [f"class {index}" for index in range(num_classes)]
    instances = coco_dataset(num_images=num_images, names=names, ids=ids)
    for image in range(num_images):
        for _ in range(rng.integers(0, 9)):
            size = np.round(np.exp(rng.uniform(2, 5.3, 2)))
            corner = np.round(rng.uniform(0, 400, 2))
            category = instances["categories"][rng.integers(num_classes)]["id"]
            crowd = int(rng.random() < 0.1)
            annotate(instances, image, category, [*corner, *size], iscrowd=crowd)
    return instances


def noisy_predictions(
    source: Source, *, seed: int, extra: int = 4, decimals: int = 2
) -> dict[int, Detections]:
    """Shifted, doubled, mislabelled and invented boxes around the truth; scores tie often."""
    rng = np.random.default_rng(seed)
    predictions = {}
    for item in source.items:
        labels, _ = source.read_labels(item)
        copies = np.repeat(np.arange(len(labels.classes)), rng.integers(0, 3, len(labels.classes)))
        boxes = labels.boxes[copies] + rng.normal(0, 4, (len(copies), 4))
        classes = labels.classes[copies].copy()
        wrong = rng.random(len(copies)) < 0.15
        classes[wrong] = rng.integers(0, len(source.class_names), wrong.sum())
        corner = rng.uniform(0, 300, (extra, 2))
        invented = np.concatenate([corner, corner + rng.uniform(5, 150, (extra, 2))], axis=1)
        boxes = np.concatenate([boxes, invented])
        boxes[:, 2:] = np.maximum(boxes[:, 2:], boxes[:, :2] + 1)
        classes = np.concatenate([classes, rng.integers(0, len(source.class_names), extra)])
        scores = np.round(rng.random(len(boxes)), decimals)
        predictions[item.image_id] = Detections(
            boxes.astype(np.float32), scores.astype(np.float32), classes.astype(np.int32)
        )
    return predictions
