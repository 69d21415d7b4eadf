"""What can be seen to fail is said before the first stage of a chain, not after the last."""

import collections

from kd_tf import checks, config, files, manifests
from kd_tf.data import leakage, splits, views
from kd_tf.data.items import Source
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import open_source
from kd_tf.errors import UserError
from kd_tf.export import formats
from kd_tf.specs import DATA_KINDS, Spec, names_list, parse
from kd_tf.stages import labels, pseudo, score, teachers
from kd_tf.stages.run import Run
from kd_tf.teachers import categories, load, thresholds


def check(run: Run) -> None:
    """Opens what later stages read: files that settings name, data sets, teachers' class lists.

    A dry run is refused whatever the run would be, and writes nothing.

    Raises:
        UserError: Something is not there or does not fit, the evaluation data has no class of the
            run, or shares images with the labelled data.
    """
    settings = run.settings
    _check_files(settings)
    formats.check_packages(names_list(settings.export_formats))
    listings = [open_source(parse(text, DATA_KINDS)) for text in settings.unlabeled]
    if listings:
        pseudo.refuse_empty_shards(run, num_images=sum(len(one.items) for one in listings))
    if settings.val_data:
        open_source(parse(settings.val_data, DATA_KINDS))
    sources = [open_source(parse(text, DATA_KINDS)) for text in settings.labeled]
    names = labels.class_list(settings, sources) if settings.labeled or settings.classes else ()
    _check_teachers(run, names)
    if sources:
        _check_amounts(run, sources)
    if settings.score_threshold and (path := checks.threshold_file(settings)) and names:
        thresholds.read(path, names, ignore=settings.ignore_threshold)
    if settings.eval_data:
        _check_held_out(run, open_source(parse(settings.eval_data, DATA_KINDS)), names)


def _check_teachers(run: Run, class_names: tuple[str, ...]) -> None:
    """Files of teachers, their names, and their classes as far as they are known unloaded."""
    settings = run.settings
    specs = teachers.specs(run) if settings.teacher else []
    names = [spec.name for spec in specs] or ["teacher"]
    for name, count in collections.Counter(names).items():
        if count > 1:
            raise UserError(f"Two teachers are called {name}: give ?name= to one of them.")
    unknown = sorted(set(checks.teacher_weights(settings)) - set(names))
    if unknown:
        raise UserError(
            f"--teacher_weights names {unknown[0]!r}, which no teacher is called. Known: "
            f"{', '.join(names)}."
        )
    known = {spec.name: _known_classes(spec) for spec in specs}
    rules = categories.read_rules(settings.class_map, drop_unknown=settings.drop_unknown_classes)
    for name, own in known.items():
        if own is not None and class_names:
            cut = categories.rules_for(rules, name, own)
            coverage = categories.cover({name: own}, class_names, rules=cut)
            if not coverage.known.any():
                raise UserError(
                    f"Teacher {name} knows none of the run's classes ({', '.join(class_names)}). "
                    f"It knows: {', '.join(own[:20])}. Give --class_map."
                )


def _known_classes(spec: Spec) -> tuple[str, ...] | None:
    if spec.kind == "tflite" and formats.is_exported_tflite(spec.location):
        return formats.load_detector(spec.location).needs().class_names
    return load.known_classes(spec)


def _check_amounts(run: Run, sources: list[Source]) -> None:
    """Labels asked for that are not there."""
    settings = run.settings
    num_images = sum(len(source.items) for source in sources)
    if settings.num_labels > num_images:
        raise UserError(
            f"--num_labels={settings.num_labels}, and --labeled has {num_images} images."
        )
    if settings.label_ids:
        splits.read_ids(settings.label_ids, views.combine(_in_one_class_list(sources, settings)))


def _in_one_class_list(sources: list[Source], settings: config.Config) -> list[Source]:
    names, drop = labels.class_list(settings, sources), names_list(settings.drop_classes)
    return [views.relabel(one, names, drop=drop) for one in sources]


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


def _check_held_out(run: Run, held_out: Source, names: tuple[str, ...]) -> None:
    settings = run.settings
    if names and not set(names) & set(held_out.class_names):
        raise UserError(
            f"--eval_data={settings.eval_data} has none of the run's classes. It has: "
            f"{', '.join(held_out.class_names)}; the run: {', '.join(names)}."
        )
    if not settings.dry_run:
        if settings.labeled:
            labels.ensure_labeled(run)
    elif settings.labeled and not manifests.is_complete(run.folder("labeled")):
        _refuse_unwritten_leakage(settings, held_out)
        return
    score.refuse_leakage(run, held_out, stages=["labeled", *_labelled_already(run)])


def _refuse_unwritten_leakage(settings: config.Config, held_out: Source) -> None:
    """As the run does from the records it writes first."""
    sources = [open_source(parse(text, DATA_KINDS)) for text in settings.labeled]
    listing = views.combine(_in_one_class_list(sources, settings))
    if not settings.val_data:
        rows, _ = splits.split_validation(
            splits.class_table(listing), fraction=settings.val_fraction, seed=settings.seed
        )
        listing = views.subset(listing, rows)
    used = leakage.read_digests(listing)
    leakage.refuse_leakage(
        leakage.read_digests(held_out),
        used,
        held_out_name=f"--eval_data={settings.eval_data}",
        used_name=f"what {settings.workdir} learned from",
        data_set=held_out.name,
        allow=held_out.name in names_list(settings.allow_leakage),
    )


def _labelled_already(run: Run) -> tuple[str, ...]:
    """Stage pseudo, where it has finished and holds none but these unlabelled images."""
    folder, settings = run.folder("pseudo"), run.settings
    if settings.overwrite or not (settings.unlabeled and manifests.is_complete(folder)):
        return ()
    listing = pseudo.images(run)
    wanted = {listing.key(item) for item in listing.items}
    return ("pseudo",) if wanted.issuperset(RecordSet.open(folder).source_ids) else ()
