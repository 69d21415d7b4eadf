"""Stage export: writes the student for serving and measures that nothing was lost."""

import dataclasses
import importlib.metadata
from collections.abc import Iterator, Sequence

import numpy as np
from absl import logging

from kd_tf import documents, files, manifests
from kd_tf.data.images import check_image
from kd_tf.data.items import Source
from kd_tf.data.records import from_example
from kd_tf.data.shards import RecordSet
from kd_tf.detectors.network import IOU_THRESHOLD, Network
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.detectors.saving import load_network
from kd_tf.errors import UserError
from kd_tf.export import formats
from kd_tf.export.meta import ExportMeta, meta_to_json
from kd_tf.geometry.detections import Detector
from kd_tf.specs import names_list
from kd_tf.stages import job, labels, score
from kd_tf.stages.run import Run
from kd_tf.teachers.label_job import PREFIX

_REPRESENTATIVE = 100
_BATCH_SIZE = 16
# What was written and measured so far, of which network and on which images.
_MEASURED = "measured.json"


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
        meta = _meta(network, stage=name)
        if source:
            return _export_and_measure(run, network, meta=meta, source=source, inputs=inputs)
        logging.warning("No --eval_data: what is exported is not compared with the network.")
        wanted = names_list(run.settings.export_formats)
        artefacts = _write(run, network, meta=meta, names=wanted)
        return job.Result(info={one.format: {"size_bytes": one.size_bytes} for one in artefacts})

    return job.ensure(stage, run, work=work)


def _write(
    run: Run, network: Network, *, meta: ExportMeta, names: Sequence[str]
) -> list[formats.Artefact]:
    return formats.export(
        network,
        run.folder("export"),
        formats=names,
        meta=meta,
        representative=lambda: _representative(run),
    )


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


def _export_and_measure(
    run: Run, network: Network, *, meta: ExportMeta, source: Source, inputs: dict[str, str]
) -> job.Result:
    """Writes each format and scores it beside the Keras network, on the same images.

    A format that loses too much stops none of the others. What is measured is noted at once, and
    neither written nor measured again, whatever formats and limit are asked for next.
    """
    score.refuse_leakage(run, source)
    wanted = names_list(run.settings.export_formats)
    formats.check_packages(wanted)
    thresholds = score.working_thresholds(network)
    key = manifests.content_hash([inputs, meta_to_json(dataclasses.replace(meta, commit=""))])
    rows = _measured(run, key)

    def measure(name: str, detector: Detector) -> tuple[dict, manifests.Counts]:
        folder = run.folder("export", "evaluate", name)
        return score.score(detector, source, thresholds=thresholds, folder=folder)

    keras, counts = measure("keras", NetworkDetector(network, batch_size=_BATCH_SIZE))
    if keras["AP"] is None:
        raise UserError(
            f"The data {source.name!r} has no object of the student's classes "
            f"({', '.join(network.class_names)}), so nothing can be measured. Give another "
            "--eval_data."
        )
    for name in wanted:
        if name in rows:
            logging.info("%s: written and measured before, kept.", name)
            continue
        (artefact,) = _write(run, network, meta=meta, names=[name])
        found, _ = measure(name, artefact.load())
        rows[name] = {
            "AP": found["AP"],
            "size_bytes": artefact.size_bytes,
            "content": _digest(artefact.path),
        }
        files.write_json(run.folder("export", _MEASURED), {"key": key, "formats": rows})
    return _judge(run, {name: rows[name] for name in wanted}, keras_ap=keras["AP"], counts=counts)


def _measured(run: Run, key: str) -> dict[str, dict]:
    """What an earlier attempt wrote and measured of the same network on the same images."""
    path = run.folder("export", _MEASURED)
    if not files.exists(path):
        return {}
    try:
        noted = documents.read_json(path)
        rows = noted["formats"] if noted["key"] == key else {}
        return {
            name: row
            for name, row in rows.items()
            if row["content"] == _digest(run.folder("export", formats.FORMATS[name].file_name))
            and isinstance(row["AP"], float)
        }
    except (ValueError, LookupError, TypeError, AttributeError):
        logging.warning("%s is damaged: every format is exported again.", path)
        return {}


def _digest(path: str) -> str:
    """Hex sha256 of a file, or of all files in a folder with their names; "" of nothing."""
    inside = sorted(files.walk(path)) if files.is_folder(path) else [path]
    if not all(map(files.is_file, inside)):
        return ""
    return manifests.content_hash([[one.removeprefix(path), files.sha256(one)] for one in inside])


def _judge(
    run: Run, rows: dict[str, dict], *, keras_ap: float, counts: manifests.Counts
) -> job.Result:
    """The stage's result; raises UserError where a format lost too much."""
    limit = run.settings.max_export_ap_drop
    passed, failures = {}, []
    for name, row in rows.items():
        path = run.folder("export", formats.FORMATS[name].file_name)
        artefact = formats.Artefact(name, path, row["size_bytes"])
        try:
            drop = formats.check_ap_drop(
                artefact, keras_ap=keras_ap, ap=row["AP"], max_drop=None if limit < 0 else limit
            )
        except UserError as error:
            failures.append(str(error))
            continue
        passed[name] = {"AP": row["AP"], "drop": drop, "size_bytes": row["size_bytes"]}
        logging.info("%s: AP %.4f, %+.4f against Keras; %s", name, row["AP"], -drop, path)
    files.write_json(run.folder("export", "formats.json"), {"keras": {"AP": keras_ap}, **passed})
    if failures:
        # What is there says itself what it is of, so other formats and limits may go on from it.
        files.remove_if_there(run.folder("export", job.STARTED))
        kept = ",".join(passed)
        advice = f" To finish with the others: --export_formats={kept}." if kept else ""
        raise UserError(
            "\n".join(failures) + f"\nPassed and kept: {kept or 'none'}.{advice} What is measured "
            "is not exported again."
        )
    return job.Result(("formats.json",), counts, passed)
