"""One SavedModel that does everything: decode, letterbox, network, NMS, boxes in the original."""

import tempfile
from collections.abc import Callable

import tensorflow as tf

from kd_tf import files
from kd_tf.export import decoding
from kd_tf.export.meta import FILE_NAME, ExportMeta, meta_to_json
from kd_tf.export.raw_network import ExportableNetwork, quietly


def export_saved_model(network: ExportableNetwork, folder: str, *, meta: ExportMeta) -> None:
    """Writes a SavedModel that needs neither Keras nor this package.

    Signatures, each for any number of rows B, zero included:
      serving_default: image_bytes [B] string, JPEG, PNG, BMP or GIF (first frame) files of any
        sizes; EXIF orientation is applied.
      image_tensor: input_tensor [B, H, W, 3] uint8 RGB, any size, upright.
      tf_example: examples [B] string, serialised tf.train.Examples with `image/encoded`.

    Outputs, of K = `meta.max_detections` rows per image, best first, zeros behind
    `num_detections`:
      detection_boxes [B, K, 4] float32, ymin, xmin, ymax, xmax in 0..1 of the upright original;
      detection_boxes_xyxy_px [B, K, 4] float32, x1, y1, x2, y2 in its pixels;
      detection_scores [B, K] float32; detection_classes [B, K] float32, from 1 (both as the
      Object Detection API has them); detection_class_names [B, K] string, "" behind the last;
      num_detections [B] float32; status [B] string: "ok", else why the row has no detections
      (the words of kd_tf.data.images.check_image).

    Args:
        network: The network with its final weights; the class names and the input size are
            taken from `meta`, which must agree.
        folder: Where to; files there are overwritten.
        meta: Kept as an asset; `read_export_meta` reads it.

    Raises:
        ValueError: `meta` describes another network.
    """
    stated = (tuple(meta.class_names), tuple(meta.image_size))
    found = (tuple(network.class_names), tuple(network.image_size))
    if stated != found:
        raise ValueError(f"meta has class names and image size {stated}, the network {found}.")
    with tempfile.TemporaryDirectory() as scratch:
        asset = files.join(scratch, FILE_NAME)
        files.write_text(asset, meta_to_json(meta))
        module = _ExportedDetector(network, meta=meta, asset=asset)
        with quietly():
            tf.saved_model.save(module, folder, signatures=module.signatures())


class _ExportedDetector(tf.Module):
    """Holds the network's variables and the three entry points."""

    def __init__(self, network: ExportableNetwork, *, meta: ExportMeta, asset: str):
        super().__init__()
        # The model itself is not kept: saved, it would drag in layers that only Keras can load.
        self.weights = [variable.value for variable in network.model.variables]
        self.meta_file = tf.saved_model.Asset(asset)
        size = tuple(meta.image_size)
        # Traced once and called by all three: tracing and storing a network takes long.
        detect = _trace_detect(network, meta=meta)

        @_signature(image_bytes=tf.TensorSpec([None], tf.string))
        def serving_default(image_bytes):
            return detect(*decoding.decode_rows(image_bytes, size))

        @_signature(input_tensor=tf.TensorSpec([None, None, None, 3], tf.uint8))
        def image_tensor(input_tensor):
            return detect(*decoding.resize_rows(input_tensor, size))

        @_signature(examples=tf.TensorSpec([None], tf.string))
        def tf_example(examples):
            return detect(*decoding.decode_examples(examples, size))

        self.serving_default = serving_default
        self.image_tensor = image_tensor
        self.tf_example = tf_example

    def signatures(self) -> dict[str, Callable]:
        """The entry points by their names in the SavedModel."""
        return {
            "serving_default": self.serving_default,
            "image_tensor": self.image_tensor,
            "tf_example": self.tf_example,
        }


def _signature(**specs: tf.TensorSpec) -> Callable:
    ((name, spec),) = specs.items()
    return tf.function(input_signature=[tf.TensorSpec(spec.shape, spec.dtype, name=name)])


def _trace_detect(network: ExportableNetwork, *, meta: ExportMeta) -> Callable:
    """The part behind the letterbox as a graph: `decoding.Rows` to the outputs."""
    names = tf.constant([*meta.class_names, ""])

    def detect(images: tf.Tensor, sizes: tf.Tensor, status: tf.Tensor) -> dict[str, tf.Tensor]:
        found = _run_network(network, images, meta=meta)
        # A row without an image went through the network as zeros, and may have "found" things.
        numbers = tf.where(tf.equal(status, decoding.OK), found["num_detections"], 0)
        present = tf.sequence_mask(numbers, meta.max_detections)
        boxes = _boxes_to_original(found["boxes"], sizes, target=tuple(meta.image_size))
        boxes = tf.where(present[..., tf.newaxis], boxes, 0.0)
        classes = tf.where(present, found["classes"], -1)
        return {
            "detection_boxes": _unit_boxes_yxyx(boxes, sizes),
            "detection_boxes_xyxy_px": boxes,
            "detection_scores": tf.where(present, found["scores"], 0.0),
            "detection_classes": tf.cast(classes + 1, tf.float32),
            "detection_class_names": tf.gather(names, tf.where(present, classes, -1) % len(names)),
            "num_detections": tf.cast(numbers, tf.float32),
            "status": status,
        }

    return tf.function(
        detect,
        input_signature=[
            tf.TensorSpec([None, *meta.image_size, 3], tf.uint8),
            tf.TensorSpec([None, 2], tf.int32),
            tf.TensorSpec([None], tf.string),
        ],
    )


def _run_network(
    network: ExportableNetwork, images: tf.Tensor, *, meta: ExportMeta
) -> dict[str, tf.Tensor]:
    """Detections in pixels of the input, for uint8 images of any number of rows."""
    num_rows = tf.shape(images)[0]
    # Not every kernel takes an empty batch: such a one runs on one black image instead.
    images = tf.cond(
        num_rows > 0, lambda: images, lambda: tf.zeros([1, *meta.image_size, 3], tf.uint8)
    )
    outputs = network.model(tf.cast(images, tf.float32), training=False)
    found = network.decode(
        outputs,
        score_floor=meta.score_floor,
        iou_threshold=meta.iou_threshold,
        max_detections=meta.max_detections,
    )
    return {name: values[:num_rows] for name, values in found.items()}


def _boxes_to_original(boxes: tf.Tensor, sizes: tf.Tensor, *, target: tuple[int, int]) -> tf.Tensor:
    """`kd_tf.geometry.letterbox.boxes_to_original` for boxes [B, K, 4] of images of many sizes."""
    sizes = tf.cast(tf.maximum(sizes, 1), tf.float64)
    limits = tf.constant(target, tf.float64)
    scale = tf.reduce_min(limits / sizes, axis=1, keepdims=True)
    resized = tf.clip_by_value(tf.round(sizes * scale), 1.0, limits)
    offset = tf.floor((limits - resized) / 2.0)
    # Height and width become x, y, x, y, one row per image to go with its K boxes.
    scale_xyxy = tf.gather(resized / sizes, [1, 0, 1, 0], axis=1)[:, tf.newaxis]
    offset_xyxy = tf.gather(offset, [1, 0, 1, 0], axis=1)[:, tf.newaxis]
    limit_xyxy = tf.gather(sizes, [1, 0, 1, 0], axis=1)[:, tf.newaxis]
    moved = (tf.cast(boxes, tf.float64) - offset_xyxy) / scale_xyxy
    return tf.cast(tf.clip_by_value(moved, 0.0, limit_xyxy), tf.float32)


def _unit_boxes_yxyx(boxes: tf.Tensor, sizes: tf.Tensor) -> tf.Tensor:
    """Pixel boxes [B, K, 4] xyxy as ymin, xmin, ymax, xmax in 0..1."""
    sizes = tf.cast(tf.maximum(sizes, 1), tf.float32)
    height_width = tf.concat([sizes, sizes], axis=1)[:, tf.newaxis]
    return tf.gather(boxes, [1, 0, 3, 2], axis=2) / height_width
