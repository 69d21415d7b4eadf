"""What can be seen to fail is said before the first stage of a chain, not after the last."""

from kd_tf import checks, config, files, manifests
from kd_tf.data.items import Source
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import open_source
from kd_tf.errors import UserError
from kd_tf.export import formats
from kd_tf.specs import DATA_KINDS, names_list, parse
from kd_tf.stages import labels, pseudo, score
from kd_tf.stages.run import Run
from kd_tf.teachers import categories


def check(run: Run) -> None:
    """Opens what later stages read: files that settings name, data sets, packages.

    Raises:
        UserError: Something is not there, the evaluation data has no class of the run, or shares
            images with the labelled data.
    """
    settings = run.settings
    _check_files(settings)
    formats.check_packages(names_list(settings.export_formats))
    for text in filter(None, (*settings.unlabeled, settings.val_data)):
        open_source(parse(text, DATA_KINDS))
    if settings.eval_data:
        _check_held_out(run, open_source(parse(settings.eval_data, DATA_KINDS)))


def _check_files(settings: config.Config) -> None:
    named = {
        "--label_ids": settings.label_ids,
        "--score_threshold": checks.threshold_file(settings),
    }
    for stage in ("teacher", "pretrain"):
        named[f"--backbone_weights of {stage}"] = settings.of(stage, "backbone_weights")
    for flag, path in named.items():
        if path and not path.startswith("kerascv:") and not files.exists(path):
            raise UserError(f"{flag}: there is no file {path!r}.")
    categories.read_rules(settings.class_map, drop_unknown=settings.drop_unknown_classes)


def _check_held_out(run: Run, held_out: Source) -> None:
    settings = run.settings
    if settings.labeled or settings.classes:
        sources = [open_source(parse(text, DATA_KINDS)) for text in settings.labeled]
        names = labels.class_list(settings, sources)
        if not set(names) & set(held_out.class_names):
            raise UserError(
                f"--eval_data={settings.eval_data} has none of the run's classes. It has: "
                f"{', '.join(held_out.class_names)}; the run: {', '.join(names)}."
            )
    if settings.dry_run:
        return
    if settings.labeled:
        labels.ensure_labeled(run)
    score.refuse_leakage(run, held_out, stages=["labeled", *_labelled_already(run)])


def _labelled_already(run: Run) -> tuple[str, ...]:
    """Stage pseudo, where it has finished and holds none but these unlabelled images."""
    folder, settings = run.folder("pseudo"), run.settings
    if settings.overwrite or not (settings.unlabeled and manifests.is_complete(folder)):
        return ()
    listing = pseudo.images(run)
    wanted = {listing.key(item) for item in listing.items}
    return ("pseudo",) if wanted.issuperset(RecordSet.open(folder).source_ids) else ()
