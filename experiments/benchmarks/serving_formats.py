"""What does each export format cost: AP against the Keras network, size, milliseconds?

Command: python -m experiments.benchmarks.serving_formats --network=FILE.keras \
    --eval_data='voc:${KD_TF_DATA}/blood_cells/test' \
    --calibration_data='voc:${KD_TF_DATA}/blood_cells/train'
Expected time: 3 min for yolov8_tiny. Expected numbers: a drop of AP of at most 0.002 for
SavedModel, float32, float16 and ONNX and of at most 0.02 for int8 (kd_tf.export.formats.FORMATS).

All are scored as in stage evaluate: same images, original pixels. Milliseconds are those of
`detect` on one image, NMS included, decoding left out (and the letterbox, but for the
SavedModel, which has its own): the median of some runs on one thread where the runtime has
such a setting (TFLite, ONNX), on all cores for TensorFlow.
"""

import json
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
from absl import app, flags

from kd_tf.data.images import check_image
from kd_tf.data.items import Source
from kd_tf.data.predict import predict
from kd_tf.data.sources import open_source
from kd_tf.detectors.network import Network
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.detectors.saving import load_network
from kd_tf.evaluation.coco import evaluate
from kd_tf.evaluation.ground_truth import ground_truth
from kd_tf.export import formats
from kd_tf.export.meta import ExportMeta
from kd_tf.geometry.detections import DEFAULT_THRESHOLD, Detector
from kd_tf.specs import DATA_KINDS, parse

FLAGS = flags.FLAGS
flags.DEFINE_string("network", None, "A .keras file of this package.", required=True)
flags.DEFINE_string("eval_data", None, "Spec of the images to score on.", required=True)
flags.DEFINE_string("calibration_data", None, "Spec of images for int8.", required=True)
flags.DEFINE_integer("num_calibration", 100, "How many of them.")
flags.DEFINE_multi_enum("formats", list(formats.FORMATS), list(formats.FORMATS), "May be repeated.")

_TIMED_RUNS = 30


def ap_of(detector: Detector, source: Source) -> float:
    """COCO AP, 0..1, of a detector on all images of a source."""
    found = ((one.item.image_id, one.detections) for one in predict(detector, source, batch_size=1))
    truth = ground_truth(source, class_names=detector.needs().class_names)
    return evaluate(truth, found)["AP"]


def detect_ms(detector: Detector, source: Source) -> float:
    """Median milliseconds of `detect` on one image of the size it wants."""
    needs = detector.needs()
    image = check_image(source.read_bytes(source.items[0])).pixels
    if needs.height is not None:
        image = np.resize(image, (needs.height, needs.width, 3))
    times = []
    for _ in range(_TIMED_RUNS):
        start = time.perf_counter()
        detector.detect(image[np.newaxis])
        times.append(time.perf_counter() - start)
    return 1000.0 * float(np.median(times))


def _meta(network: Network) -> ExportMeta:
    thresholds = (DEFAULT_THRESHOLD,) * len(network.class_names)
    return ExportMeta(network.class_names, tuple(network.image_size), thresholds)


def main(argv: list[str]) -> None:
    """Prints one line of JSON per format, the Keras network first."""
    del argv
    network = load_network(FLAGS.network)
    source = open_source(parse(FLAGS.eval_data, DATA_KINDS))
    calibration = open_source(parse(FLAGS.calibration_data, DATA_KINDS))

    def representative():
        for item in calibration.items[: FLAGS.num_calibration]:
            yield check_image(calibration.read_bytes(item)).pixels

    keras = NetworkDetector(network, batch_size=1)
    keras_ap = ap_of(keras, source)
    line = {"format": "keras", "ap": round(keras_ap, 4), "ms": round(detect_ms(keras, source), 1)}
    print(json.dumps(line), flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for artefact in formats.export(
            network,
            folder,
            formats=tuple(dict.fromkeys(FLAGS.formats)),
            meta=_meta(network),
            representative=representative,
        ):
            detector = artefact.load()
            ap = ap_of(detector, source)
            line = {
                "format": artefact.format,
                "ap": round(ap, 4),
                "drop": round(keras_ap - ap, 4),
                "allowed": formats.FORMATS[artefact.format].max_ap_drop,
                "megabytes": round(artefact.size_bytes / 1e6, 2),
                "ms": round(detect_ms(detector, source), 1),
            }
            print(json.dumps(line), flush=True)


if __name__ == "__main__":
    app.run(main)
