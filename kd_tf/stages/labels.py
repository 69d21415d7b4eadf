"""People's labels: opened, split and written to records once for all stages of a run."""

import dataclasses
import functools
import io
from collections.abc import Sequence

import numpy as np
from absl import logging

from kd_tf import config, documents, files, manifests
from kd_tf.data import label_map, labeled, leakage, splits, taught, views
from kd_tf.data.items import Source
from kd_tf.data.rejects import check_fraction, log_boxes
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import open_source
from kd_tf.errors import RejectedError, UserError
from kd_tf.specs import DATA_KINDS, names_list, parse
from kd_tf.stages import job
from kd_tf.stages.run import Run
from kd_tf.teachers.synonyms import canonical

TRAIN, VAL = "train", "val"
_IMAGES_PER_SHARD = 1000
_VAL_IDS = "val_ids.txt"


@dataclasses.dataclass(frozen=True)
class LabeledData:
    """The labelled records of a workdir.

    Attributes:
        folder: Where they lie.
        class_names: The run's classes.
        listing: What they were written from.
    """

    folder: str
    class_names: tuple[str, ...]
    listing: Source

    @functools.cached_property
    def train(self) -> RecordSet:
        """The records to train on."""
        return labeled.open_labeled(self.folder, TRAIN)

    def rows(
        self, *, seed: int, fraction: float = 1.0, number: int = 0, ids: str = ""
    ) -> np.ndarray:
        """Numbers of the training records of a part of the labels; parts are nested by seed.

        Args:
            seed: Of the choice.
            fraction: Share of the training images, in (0, 1].
            number: Images instead of a share; 0 takes the share.
            ids: File of original ids instead of both.
        """
        if ids:
            listed = splits.read_ids(ids, self.listing)
            return self._numbers([self.listing.key(self.listing.items[row]) for row in listed], ids)
        table = taught.read_table(self.folder, num_classes=len(self.class_names))
        if number:
            rows = splits.take_number(table, number=number, seed=seed)
        else:
            rows = splits.take_fraction(table, fraction=fraction, seed=seed)
        missing = [self.class_names[index] for index in splits.missing_classes(table, rows)]
        if missing:
            logging.warning("%d labelled images hold no %s.", len(rows), ", ".join(missing))
        return rows

    def training_source(self) -> Source:
        """The images to train on as a source, for teachers that label them again."""
        return self._source(TRAIN)

    def validation(self) -> Source:
        """The images that choose checkpoints and thresholds."""
        return self._source(VAL)

    def _source(self, part: str) -> Source:
        if not manifests.is_complete(self.folder):
            return self.listing  # A dry run: nothing has been written, or split.
        path = files.join(self.folder, f"{part}-*.tfrecord")
        return open_source(parse(f"records:{path}?name={part}", DATA_KINDS))

    def _numbers(self, keys: list[str], where: str) -> np.ndarray:
        number_of = {key: number for number, key in enumerate(self.train.source_ids)}
        missing = [key for key in keys if key not in number_of]
        if missing:
            raise UserError(
                f"{where} lists {len(missing)} images that are not trained on (kept for "
                f"validation, copies, or unusable), for example {missing[0]}. Give --val_data, "
                "or leave them out."
            )
        return np.sort(np.array([number_of[key] for key in keys], np.int64))


def ensure_labeled(run: Run) -> LabeledData:
    """The labelled records of the run, written now if they are not there."""
    settings, folder = run.settings, run.folder("labeled")
    sources = [open_source(parse(text, DATA_KINDS)) for text in settings.labeled]
    names = class_list(settings, sources)
    drop = names_list(settings.drop_classes)
    listing = views.combine([views.relabel(one, names, drop=drop) for one in sources])
    inputs, val = {"listing": listing.fingerprint}, None
    if settings.val_data:
        val = views.relabel(open_source(parse(settings.val_data, DATA_KINDS)), names, drop=drop)
        inputs["val_data"] = val.fingerprint
    job.ensure(
        job.Stage("labeled", folder, inputs=inputs),
        run,
        work=functools.partial(_write, folder, listing=listing, val=val, settings=settings),
        keep=True,
    )
    return LabeledData(folder, names, listing)


def class_list(settings: config.Config, sources: list[Source]) -> tuple[str, ...]:
    """The run's classes: --classes (a comma list or a file), else those of the data."""
    drop = names_list(settings.drop_classes)
    if not settings.classes:
        found = views.union_of_classes(sources)
        unknown = [name for name in drop if name not in found]
        if unknown:
            raise UserError(
                f"--drop_classes: the data has no {', '.join(unknown)}; it has {', '.join(found)}."
            )
        found = tuple(name for name in found if name not in drop)
        _refuse_spellings(found, "--labeled")
        return found
    if files.exists(settings.classes):
        names = tuple(documents.read_lines(settings.classes, where="--classes"))
    else:
        names = names_list(settings.classes)
    if not names or len(set(names)) < len(names):
        raise UserError(f"--classes={settings.classes} lists no class, or one of them twice.")
    _refuse_spellings(names, "--classes")
    return names


def _refuse_spellings(names: Sequence[str], where: str) -> None:
    """Refuses two names of one class, which would be learned as two."""
    met: dict[str, str] = {}
    for name in names:
        other = met.setdefault(canonical(name, names), name)
        if other != name:
            raise UserError(
                f"{where}: {other!r} and {name!r} are two names of one class. Make them one in the "
                f"data, or leave one out by --drop_classes={name}."
            )


def _write(
    folder: str, *, listing: Source, val: Source | None, settings: config.Config
) -> job.Result:
    table = splits.class_table(listing)
    _refuse_unusable(listing, table, where=" ".join(settings.labeled))
    train_rows = np.arange(len(listing.items))
    if val is None:
        train_rows, val_rows = splits.split_validation(
            table, fraction=settings.val_fraction, seed=settings.seed
        )
        val = dataclasses.replace(views.subset(listing, val_rows), rejects=())
        # What cannot be used is met, and counted, with the training images.
        train_rows = np.setdiff1d(np.arange(len(listing.items)), val_rows)
        splits.write_ids(files.join(folder, _VAL_IDS), listing, rows=val_rows)
    try:
        counts = _write_parts(
            folder, val, views.subset(listing, train_rows), listing=listing, settings=settings
        )
    except UserError:
        # A repaired image may change the split, and which of its copies is kept: all is read again.
        for part in (TRAIN, VAL):
            labeled.remove(folder, part)
        for name in (label_map.FILE_NAME, _VAL_IDS):
            files.remove_if_there(files.join(folder, name))
        raise
    _write_table(folder, table, listing)
    outputs = [n for n in files.list_folder(folder) if n.endswith((".tfrecord", ".npz"))]
    return job.Result(tuple(outputs), counts, {"class_names": list(listing.class_names)})


def _write_parts(
    folder: str, val: Source, train: Source, *, listing: Source, settings: config.Config
) -> manifests.Counts:
    counts = _write_part(folder, VAL, val, known={})
    known = {}
    if settings.val_data:
        _refuse_leakage(folder, val, listing, settings=settings)
    else:
        known = labeled.open_labeled(folder, VAL).digests
    counts.add(_write_part(folder, TRAIN, train, known=known))
    where = " ".join(settings.labeled)
    log_boxes(counts, where=where)
    check_fraction(counts, max_bad_fraction=settings.max_bad_fraction, where=where, folder=folder)
    return counts


def _refuse_unusable(listing: Source, table: splits.ClassTable, *, where: str) -> None:
    if table.usable.any():
        return
    try:
        listing.read_labels(listing.items[0])
    except RejectedError as error:
        first = f"{listing.key(listing.items[0])}: {error}"
        raise UserError(
            f"--labeled={where}: none of {len(table)} images can be used. The first: {first}."
        ) from error


def _write_part(
    folder: str, part: str, source: Source, *, known: dict[str, str]
) -> manifests.Counts:
    num_shards = max(1, -(-len(source.items) // _IMAGES_PER_SHARD))
    counts = labeled.write_labeled(
        source, folder=folder, prefix=part, num_shards=num_shards, known=known
    )
    if not counts.written:
        named = "; ".join(f"{why}: {what[0]}" for why, what in counts.examples.items())
        raise UserError(
            f"{source.name}: none of {counts.seen} images can be used for {part}. {named}."
        )
    logging.info(
        "%s: %d images written, %d left out.", part, counts.written, counts.skipped.total()
    )
    return counts


def _refuse_leakage(folder: str, val: Source, listing: Source, *, settings: config.Config) -> None:
    leakage.refuse_leakage(
        labeled.open_labeled(folder, VAL).digests,
        leakage.read_digests(listing),
        held_out_name=f"--val_data={settings.val_data}",
        used_name=" ".join(f"--labeled={text}" for text in settings.labeled),
        data_set=val.name,
        allow=val.name in names_list(settings.allow_leakage),
    )


def _write_table(folder: str, table: splits.ClassTable, listing: Source) -> None:
    """Keeps the classes of every training record, so that choosing a part reads no image."""
    row_of = {listing.key(item): row for row, item in enumerate(listing.items)}
    keys = labeled.open_labeled(folder, TRAIN).source_ids
    classes = [table.of(row_of[key]) for key in keys]
    starts = np.cumsum([0, *(len(one) for one in classes)])
    content = io.BytesIO()
    np.savez(content, starts=starts, classes=np.concatenate(classes).astype(np.int32))
    files.write_bytes(files.join(folder, taught.TABLE), content.getvalue())
