"""Question: does training in bfloat16 follow float32's loss curve, and are its outputs float32?

    python -m experiments.benchmarks.bfloat16 --out=runs/bfloat16.json

Expected time on 2 quiet cores: 30 min (bfloat16 convolutions are emulated there; this
measures numbers, not speed). Expected: a difference of at most 5 %.

Both precisions get the same first weights and the same batches. The curve is the mean loss of
20 steps and of all seeds; the difference is the largest one between the two curves at any step,
relative to float32's. Training amplifies the smallest difference, so a third curve says how far
two of float32 drift apart: float32 from first weights that were rounded to bfloat16.
Batches are the embedded scenes, mirrored at random, as in training. The learning rate is
below kd_tf's default: at .005 and a warm-up of 2 steps, RetinaNet's loss leapt from 2 to 160 in
either precision, and what differs then is where chaos leads.
"""

import argparse
import os
import tempfile
import time

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

import numpy as np
import tensorflow as tf

from kd_tf import config, files
from kd_tf.data import labeled
from kd_tf.data.augment_plan import AugmentSettings
from kd_tf.data.pipeline import training_batches
from kd_tf.data.scenes import CLASS_NAMES
from kd_tf.data.select import SelectSettings
from kd_tf.data.shards import RecordSet
from kd_tf.data.sources import open_source
from kd_tf.detectors import zoo
from kd_tf.detectors.network import Network
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.training import loop, summaries
from kd_tf.training import strategy as strategies
from kd_tf.training.settings import TrainSettings

NETWORKS = ("yolov8_tiny", "retinanet_tiny")
# The last: float32 throughout, from first weights that were rounded once.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "rounded": "float32"}
WINDOW, LIMIT = 20, 0.05


def main() -> None:
    """Trains every network in both precisions, then prints the table."""
    arguments = _parse()
    with tempfile.TemporaryDirectory() as folder:
        records = _records(folder, size=arguments.image_size)
        rows = [measure(name, records, arguments=arguments) for name in arguments.networks]
    if arguments.out:
        files.write_json(arguments.out, {"setting": vars(arguments), "networks": rows})
    print(to_markdown(rows))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--out", default="", help="JSON file for the result, loss curves included.")
    add("--networks", nargs="+", default=list(NETWORKS))
    add("--image_size", type=int, default=96)
    add("--batch_size", type=int, default=8)
    add("--steps", type=int, default=300)
    add("--learning_rate", type=float, default=0.001)
    add("--seeds", type=int, default=3, help="Of first weights and batches.")
    arguments = parser.parse_args()
    if arguments.steps < WINDOW:
        parser.error(f"--steps must be at least {WINDOW}, the window of the mean.")
    return arguments


def _records(folder: str, *, size: int) -> RecordSet:
    source = open_source(parse(f"scenes:train?num=400&size={size}", DATA_KINDS))
    labeled.write_labeled(source, folder=folder, prefix="train", num_shards=1)
    return labeled.open_labeled(folder, "train")


def measure(name: str, records: RecordSet, *, arguments: argparse.Namespace) -> dict:
    """All curves of one network and how far they are from float32's."""
    runs = {
        precision: [
            train(name, precision, records, seed=seed, arguments=arguments)
            for seed in range(arguments.seeds)
        ]
        for precision in POLICIES
    }
    curves = {one: np.mean([run["loss"] for run in found], axis=0) for one, found in runs.items()}
    found = {one: difference(curves[one], curves["float32"]) for one in ("bfloat16", "rounded")}
    return {"network": name, **found, "runs": runs}


def train(
    name: str, precision: str, records: RecordSet, *, seed: int, arguments: argparse.Namespace
) -> dict[str, object]:
    """The loss of every step of one run, its seconds, and the types of all outputs."""
    size = (arguments.image_size, arguments.image_size)
    batches = _batches(records, size=size, batch_size=arguments.batch_size, seed=seed)
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        result = loop.train(
            build=lambda: _build(name, precision, size=size, seed=seed),
            batches=lambda first, *_: batches.skip(first),
            settings=_settings(
                arguments, precision="float32" if precision == "rounded" else precision
            ),
            folder=folder,
            validate=None,
            strategy=strategies.build_strategy("one"),
        )
        loss = [row["loss"] for row in summaries.read_metrics(folder) if "loss" in row]
    seconds = time.perf_counter() - start
    print(
        f"{name}, {precision}, seed {seed}: {seconds:.0f} s, last loss {loss[-1]:.3f}", flush=True
    )
    types = sorted(_output_types(result.network, next(iter(batches))))
    return {"loss": loss, "seconds": seconds, "output_types": types}


def _build(name: str, precision: str, *, size: tuple[int, int], seed: int) -> Network:
    network = zoo.build(
        name,
        class_names=CLASS_NAMES,
        image_size=size,
        precision=POLICIES[precision],
        seed=seed,
    )
    if precision == "rounded":
        for variable in network.model.trainable_variables:
            variable.assign(tf.cast(tf.cast(variable.value, tf.bfloat16), tf.float32))
    return network


def _output_types(network: Network, batch: dict[str, tf.Tensor]) -> set[str]:
    """Of raw heads, loss terms, decoded boxes and scores."""
    labels = {key: rows for key, rows in batch.items() if key != "images"}
    outputs = network.model(tf.cast(batch["images"], tf.float32), training=False)
    decoded = network.decode(outputs)
    values = [*outputs.values(), *network.loss(outputs, labels).values()]
    return {one.dtype.name for one in (*values, decoded["boxes"], decoded["scores"])}


def _settings(arguments: argparse.Namespace, *, precision: str) -> TrainSettings:
    defaults, steps = config.Config(), arguments.steps
    return TrainSettings(
        steps=steps,
        batch_size=arguments.batch_size,
        learning_rate=arguments.learning_rate,
        warmup_steps=round(steps * defaults.warmup_fraction),
        decay_steps=round(steps * defaults.decay_fraction),
        weight_decay=defaults.weight_decay,
        clip_norm=defaults.clip_norm,
        ema_decay=defaults.ema_decay,
        precision=precision,
        steps_per_call=defaults.steps_per_call,
        checkpoint_every=0,
    )


def _batches(
    records: RecordSet, *, size: tuple[int, int], batch_size: int, seed: int
) -> tf.data.Dataset:
    return training_batches(
        records,
        class_names=CLASS_NAMES,
        image_size=size,
        batch_size=batch_size,
        seed=seed,
        start_step=0,
        augment=AugmentSettings(flip=0.5),
        select=SelectSettings(),
        max_boxes=32,
    )


def difference(curve: np.ndarray, reference: np.ndarray) -> dict[str, float]:
    """Largest and mean relative difference of two loss curves, each a mean over `WINDOW` steps."""
    kernel = np.full(WINDOW, 1.0 / WINDOW)
    smooth, smooth_reference = (np.convolve(one, kernel, "valid") for one in (curve, reference))
    relative = np.abs(smooth - smooth_reference) / smooth_reference
    return {"largest": float(relative.max()), "mean": float(relative.mean())}


def to_markdown(rows: list[dict]) -> str:
    """The differences, as a table."""
    lines = [
        "| network | largest difference | mean | float32 from rounded weights: largest | mean "
        "| last 20 losses, float32 / bfloat16 | outputs |",
        "|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        runs = [row["runs"][precision] for precision in ("float32", "bfloat16")]
        last = " / ".join(
            f"{np.mean([run['loss'][-WINDOW:] for run in found]):.3f}" for found in runs
        )
        own, floor = row["bfloat16"], row["rounded"]
        verdict = "ok" if own["largest"] <= LIMIT else "above 5 %"
        types = ", ".join(runs[1][0]["output_types"])
        lines.append(
            f"| {row['network']} | {own['largest']:.2%} ({verdict}) | {own['mean']:.2%} "
            f"| {floor['largest']:.2%} | {floor['mean']:.2%} | {last} | {types} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
