"""Two real networks with disjoint classes on real photos: labels for the union."""

import numpy as np

from kd_tf import specs
from kd_tf.data.records import from_example
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import open_source
from kd_tf.data.views import subset
from kd_tf.teachers.categories import Rules, cover, weights
from kd_tf.teachers.fusion import FusionSettings
from kd_tf.teachers.label_job import LabelWriter
from kd_tf.teachers.labeller import Labeller, LabelSettings
from kd_tf.teachers.load import load_teacher
from kd_tf.teachers.predict_job import Work, label_predictions
from kd_tf.teachers.predictions import read_predictions

NUM_IMAGES = 10


def _teachers(weights_folder):
    texts = {
        "ssd": f"tflite:{weights_folder}/ssd_mobilenet_v1.tflite",
        "yolox": "python:experiments.yolox_teacher.teacher:load"
        f"?model={weights_folder}/yolox_nano.tflite&names={weights_folder}/coco80_names.txt",
    }
    return {n: load_teacher(specs.parse(t, specs.TEACHER_KINDS)) for n, t in texts.items()}


def test_two_real_teachers_of_disjoint_classes_label_the_union(real_data, tmp_path):
    folder, work = real_data / "coco_tiny", Work(num_shards=2, batch_size=4)
    spec = f"coco:{folder}/annotations/instances_val2017.json?images={folder}/val2017"
    source = open_source(specs.parse(spec, specs.DATA_KINDS))
    source = subset(source, range(NUM_IMAGES))
    names = source.class_names
    teachers = _teachers(real_data / "weights")
    # SSD speaks for people only, YOLOX for everything else.
    drop = {f"ssd/{name}" for name in names if name != "person"} | {"yolox/person"}
    known = {name: teacher.needs().class_names for name, teacher in teachers.items()}
    coverage = cover(known, names, rules=Rules(drop=frozenset(drop)))
    labellers, raw = [], {}
    rows = zip(teachers.items(), coverage.class_maps, weights(coverage), strict=True)
    for (name, teacher), class_map, row in rows:
        out = str(tmp_path / name)
        label_predictions(teacher, source, name=name, folder=out, work=work)
        labellers.append(Labeller(name, out, class_map, row))
        shards = sorted((tmp_path / name).glob("*.tfrecord"))
        raw[name] = {p.key: p.detections for s in shards for p in read_predictions(str(s))}
    settings = LabelSettings(names, FusionSettings("wbf"), np.full(80, 0.4))
    LabelWriter(
        source, labellers, folder=str(tmp_path / "out"), work=work, settings=settings
    ).finish()

    person, found = names.index("person"), set()
    for serialized in RecordSet.open(str(tmp_path / "out")):
        record = from_example(serialized, class_names=names)
        # Somebody judged every class, so nothing is left to chance as background.
        assert record.judged is None or len(record.judged) == 80
        is_person = record.objects.classes == person
        assert (record.objects.teachers[is_person] == 0).all()
        assert (record.objects.teachers[~is_person] == 1).all()
        ssd = raw["ssd"][record.source_id]
        own = ssd.scores[ssd.classes == known["ssd"].index("person")]
        if len(own):
            # Over the one teacher that knows the class the best score is never halved.
            assert record.objects.scores[is_person].max() > 0.5 * own.max()
        found |= set(record.objects.classes[record.objects.working].tolist())
    assert person in found
    assert len(found) > 3
