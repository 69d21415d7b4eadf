"""Stage export: writes the student for serving and measures that nothing was lost."""

import importlib.metadata
from collections.abc import Iterator

import numpy as np
from absl import logging

from kd_tf import files, manifests
from kd_tf.data.images import check_image
from kd_tf.data.items import Source
from kd_tf.data.records import from_example
from kd_tf.data.shards import RecordSet
from kd_tf.detectors.network import IOU_THRESHOLD, Network
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.detectors.saving import load_network
from kd_tf.errors import UserError
from kd_tf.export import formats
from kd_tf.export.meta import ExportMeta
from kd_tf.specs import names_list
from kd_tf.stages import job, labels, score
from kd_tf.stages.run import Run
from kd_tf.teachers.label_job import PREFIX

_REPRESENTATIVE = 100
_BATCH_SIZE = 16


def export(run: Run) -> bool:
    """Exports the fine-tuned student, else the pre-trained one, in float32, and scores that.

    Without --eval_data and --labeled there is nothing to score on, and nothing is.
    """
    name = "finetune" if manifests.is_complete(run.folder("finetune")) else "pretrain"
    inputs = {name: run.input_hash(run.need(name))}
    source = score.held_out(run) if run.settings.eval_data or run.settings.labeled else None
    if source:
        inputs["eval_data"] = source.fingerprint
    stage = job.Stage("export", run.folder("export"), inputs=inputs, goes_on_from=job.begins_anew)

    def work() -> job.Result:
        # Whatever it was trained in: CPUs are slow in bfloat16, and ONNX and TFLite lack kernels.
        # It is compared in the precision it leaves in, so that a drop is the export's.
        network = load_network(run.folder(name, "model.keras"), precision="float32")
        artefacts = formats.export(
            network,
            run.folder("export"),
            formats=names_list(run.settings.export_formats),
            meta=_meta(network, stage=name),
            representative=lambda: _representative(run),
        )
        if not source:
            logging.warning("No --eval_data: what is exported is not compared with the network.")
            return job.Result(
                info={one.format: {"size_bytes": one.size_bytes} for one in artefacts}
            )
        return _measure(run, network, artefacts, source=source)

    return job.ensure(stage, run, work=work)


def _meta(network: Network, *, stage: str) -> ExportMeta:
    return ExportMeta(
        class_names=network.class_names,
        image_size=network.image_size,
        score_thresholds=tuple(score.working_thresholds(network)),
        iou_threshold=IOU_THRESHOLD,
        network=network.name,
        stage=stage,
        commit=manifests.commit(),
        ap=network.meta.get("val_ap"),
        versions={n: importlib.metadata.version(n) for n in ("keras", "keras-cv", "numpy")},
    )


def _representative(run: Run) -> Iterator[np.ndarray]:
    """Images the student learned from: 8-bit formats take their value ranges from them."""
    stage, prefix = ("labeled", labels.TRAIN) if run.settings.labeled else ("pseudo", PREFIX)
    records = RecordSet.open(run.folder(stage, f"{prefix}-*.tfrecord"))
    for number in np.linspace(0, len(records) - 1, min(_REPRESENTATIVE, len(records))).astype(int):
        record = from_example(records.read(int(number)), class_names=records.class_names)
        yield check_image(record.encoded).pixels


def _measure(run: Run, network: Network, artefacts: list, *, source: Source) -> job.Result:
    """Scores each artefact beside the Keras network, on the same images."""
    score.refuse_leakage(run, source)
    limit = run.settings.max_export_ap_drop
    thresholds = score.working_thresholds(network)
    detector = NetworkDetector(network, batch_size=_BATCH_SIZE)
    keras, counts = score.score(
        detector, source, thresholds=thresholds, folder=run.folder("export", "evaluate", "keras")
    )
    if keras["AP"] is None:
        raise UserError(
            f"The data {source.name!r} has no object of the student's classes "
            f"({', '.join(network.class_names)}), so nothing can be measured. Give another "
            "--eval_data."
        )
    rows = {}
    for one in artefacts:
        found, _ = score.score(
            one.load(),
            source,
            thresholds=thresholds,
            folder=run.folder("export", "evaluate", one.format),
        )
        drop = formats.check_ap_drop(
            one, keras_ap=keras["AP"], ap=found["AP"], max_drop=None if limit < 0 else limit
        )
        rows[one.format] = {"AP": found["AP"], "drop": drop, "size_bytes": one.size_bytes}
        logging.info(
            "%s: AP %.4f, %+.4f against Keras; %s", one.format, found["AP"], -drop, one.path
        )
    files.write_json(run.folder("export", "formats.json"), {"keras": {"AP": keras["AP"]}, **rows})
    return job.Result(("formats.json",), counts, rows)
