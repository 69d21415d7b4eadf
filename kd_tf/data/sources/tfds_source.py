"""`tfds:NAME?split=train&data_dir=DIR`: a data set prepared by TensorFlow Datasets."""

import array
import dataclasses
import functools
import io
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import tensorflow as tf

from kd_tf import documents, files
from kd_tf.data import images
from kd_tf.data.items import Item, Labels, Reject, Source
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import packed, reading, tfds_features
from kd_tf.errors import RejectedError, UserError
from kd_tf.specs import Spec


def open_tfds(spec: Spec) -> Source:
    """Lists a split of a prepared data set; needs no network.

    Any detection set is understood by the types of its features. TFDS decoders ignore EXIF,
    so its boxes belong to the stored pixels and turn with the image. A split without any box
    (COCO's test) is an unlabelled source. Classes go by name; Open Images has machine ids for
    names, which `names=` (its class-descriptions file: id,name a line) replaces.

    Listing reads every example once, without decoding an image (0.1 ms each).

    Raises:
        UserError: The data set is unknown or not prepared, or the split is not there.
    """
    builder = _prepared_builder(spec)
    split = spec.options.get("split", "train")
    keys = tfds_features.find_keys(builder.info.features, where=spec.text)
    collected = _Collected(keys)
    for example in _examples(builder, split, keys=keys, spec=spec):
        collected.add(example)
    if not collected.items:
        raise UserError(f"{spec.text}: the split {split} holds no image.")
    labelled = len(collected.classes) > 0
    return Source(
        name=spec.name,
        class_names=_renamed(keys.class_names, spec) if labelled else (),
        items=collected.items,
        read_bytes=_byte_reader(str(builder.data_dir), keys.image),
        read_labels=collected.label_reader(spec.name) if labelled else None,
        rejects=(),
        fingerprint=reading.fingerprint(
            [builder.info.full_name, split, *keys.class_names, *collected.content()]
        ),
    )


def _prepared_builder(spec: Spec):
    import tensorflow_datasets as tfds

    folder = spec.options.get("data_dir")
    try:
        if files.exists(files.join(spec.location, "dataset_info.json")):
            builder = tfds.builder_from_directory(spec.location)
        else:
            builder = tfds.builder(spec.location, data_dir=folder)
    except (tfds.core.DatasetNotFoundError, ValueError, AssertionError, OSError) as error:
        first = str(error).partition("\n")[0]
        raise UserError(
            f"{spec.text}: TensorFlow Datasets cannot open it: {first} Names look like coco/2017; "
            "a folder that holds dataset_info.json works too."
        ) from error
    if not files.exists(files.join(str(builder.data_dir), "dataset_info.json")):
        raise UserError(
            f"{spec.text}: the data set is not prepared in {str(builder.data_dir)!r}. Nothing is "
            f"downloaded here. Prepare it once with `tfds build {spec.location}` (and "
            "--data_dir), or give the folder that holds it as data_dir=."
        )
    if builder.info.file_format.value != "tfrecord":
        raise UserError(
            f"{spec.text}: it was prepared as {builder.info.file_format.value}; prepare it with "
            "--file_format=tfrecord."
        )
    return builder


def _examples(builder, split: str, *, keys: tfds_features.Keys, spec: Spec) -> Iterator[Mapping]:
    """Examples in the order of the files, each with its `tfds_id`, images still encoded."""
    import tensorflow_datasets as tfds

    try:
        dataset = builder.as_dataset(
            split=split,
            shuffle_files=False,
            decoders={keys.image: tfds.decode.SkipDecoding()},
            read_config=tfds.ReadConfig(
                add_tfds_id=True, interleave_cycle_length=1, try_autocache=False
            ),
        )
    except ValueError as error:
        known = ", ".join(builder.info.splits)
        raise UserError(f"{spec.text}: no split {split}. There are: {known}.") from error
    try:
        yield from tfds.as_numpy(dataset)
    except tf.errors.OpError as error:
        raise UserError(
            f"{spec.text}: a file of the data set is damaged: {error.message}"
        ) from error


class _Collected:
    """The examples listed so far, in flat arrays."""

    def __init__(self, keys: tfds_features.Keys):
        self.keys = keys
        self.items: list[Item] = []
        self.headers = array.array("i")
        self.corners = array.array("d")
        self.classes = array.array("i")
        self.crowd = array.array("b")
        self.areas = array.array("f")
        self.rows = array.array("q")
        self.judged: list[np.ndarray] = []
        rank = {name: index for index, name in enumerate(keys.class_names)}
        self.class_of_verified = np.array([rank.get(n, -1) for n in keys.verified_names], np.int32)

    def add(self, example: Mapping) -> None:
        """Takes what is needed later from an example; not its pixels."""
        row, keys = len(self.items), self.keys
        tfds_id = example["tfds_id"].decode()
        own = example[keys.image_id] if keys.image_id else tfds_id
        name = own.decode("utf-8", "replace") if isinstance(own, bytes) else str(own)
        number = int(own) if isinstance(own, (int, np.integer)) else row + 1
        self.items.append(Item(number, name, tfds_id))
        self.headers.extend(_header_numbers(example[keys.image]))
        if not keys.objects:
            return
        boxes, classes, crowd, areas = tfds_features.raw_objects(example, keys)
        self.corners.extend(boxes.ravel())
        self.classes.extend(classes.tolist())
        self.crowd.extend(crowd.tolist())
        self.areas.extend(areas.tolist())
        self.rows.extend([row] * len(classes))
        if keys.verified:
            self.judged.append(
                tfds_features.judged_classes(
                    example, keys, class_of_verified=self.class_of_verified
                )
            )

    def content(self) -> Iterator[bytes | str]:
        """Everything listed, for the fingerprint."""
        yield from (item.original_id for item in self.items)
        for part in (self.corners, self.classes, self.crowd, self.rows, *self.judged):
            yield np.asarray(part).tobytes()

    def label_reader(self, name: str) -> Callable[[Item], tuple[Labels, list[Reject]]]:
        """Labels by item, from the arrays alone."""
        num_images = len(self.items)
        boxes = packed.pack(
            packed.raw_boxes(
                np.array(self.corners),
                self.classes,
                is_crowd=np.array(self.crowd, bool),
                areas=self.areas,
            ),
            np.array(self.rows, np.int64),
            num_images=num_images,
        )
        headers = np.array(self.headers, np.int32).reshape(num_images, 3)
        image_ids = np.array([item.image_id for item in self.items], np.int64)
        order = np.argsort(image_ids, kind="stable")
        judged = self.judged or None

        def read_labels(item: Item) -> tuple[Labels, list[Reject]]:
            row = order[np.searchsorted(image_ids, item.image_id, sorter=order)]
            height, width, orientation = headers[row].tolist()
            if not height:
                raise RejectedError("damaged image", f"no header could be read in {item.location}")
            header = images.Header("", height, width, orientation)
            scale = np.array([width, height, width, height], np.float64)
            raw = packed.scaled(boxes.of(row), scale)
            return packed.to_labels(
                dataclasses.replace(raw, boxes=images.orient_boxes(raw.boxes, header)),
                item=item,
                header=header,
                judged=judged[row] if judged else None,
                key=f"{name}/{item.original_id}",
            )

        return read_labels


def _header_numbers(encoded: bytes) -> tuple[int, int, int]:
    try:
        header = images.read_header(io.BytesIO(encoded))
    except RejectedError:
        return 0, 0, 0
    return header.height, header.width, header.orientation


def _byte_reader(folder: str, image_key: str) -> Callable[[Item], bytes]:
    """Reads one example by its file and number; each file is scanned once for its offsets."""
    open_file = functools.lru_cache(maxsize=None)(RecordSet.open)

    def read_bytes(item: Item) -> bytes:
        name, _, number = item.location.rpartition("__")
        record = open_file(files.join(folder, name)).read(int(number))
        values = tf.train.Example.FromString(record).features.feature[image_key].bytes_list.value
        if not values:
            raise RejectedError("empty file", f"no image in {item.location}")
        return values[0]

    return read_bytes


def _renamed(class_names: tuple[str, ...], spec: Spec) -> tuple[str, ...]:
    """Class names, replaced by those of the `names=` file where it has them."""
    if "names" not in spec.options:
        return class_names
    path = spec.options["names"]
    reading.need_file(path, where=spec.text)
    rows = (line.partition(",") for line in documents.read_lines(path))
    names = {left.strip(): right.strip().strip('"') for left, comma, right in rows if comma}
    return tuple(names.get(name, name) for name in class_names)
