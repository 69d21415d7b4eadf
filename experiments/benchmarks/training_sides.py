"""Both sides of `training_vs_kerascv`: the same batches and scores for KerasCV's `fit` and ours."""

import argparse
import dataclasses
import functools
import tempfile
import time
from collections.abc import Callable, Iterator

import keras
import numpy as np
import tensorflow as tf

from experiments.benchmarks import stock_kerascv
from experiments.benchmarks.held_out import HeldOut, load_scenes
from kd_tf import config, documents, files
from kd_tf.data import labeled
from kd_tf.data.augment_plan import AugmentSettings
from kd_tf.data.pipeline import training_batches
from kd_tf.data.scenes import CLASS_NAMES
from kd_tf.data.select import SelectSettings
from kd_tf.data.sources import open_source
from kd_tf.detectors import zoo
from kd_tf.detectors.network import Network
from kd_tf.detectors.network_detector import NetworkDetector
from kd_tf.specs import DATA_KINDS, parse
from kd_tf.training import call as calls
from kd_tf.training import loop, train_step
from kd_tf.training import strategy as strategies
from kd_tf.training.settings import TrainSettings

_WARM_UP_STEPS, _FIXED_BATCHES = 10, 8


class Bench:
    """The data, and the two ways to train on it."""

    def __init__(self, arguments: argparse.Namespace):
        self._arguments = arguments
        self._strategy = strategies.build_strategy("one")
        folder = files.join(arguments.out, f"records-{arguments.num_train}-{arguments.image_size}")
        text = f"scenes:train?num={arguments.num_train}&size={arguments.image_size}"
        source = open_source(parse(text, DATA_KINDS))
        labeled.write_labeled(source, folder=folder, prefix="train", num_shards=1)
        self._records = labeled.open_labeled(folder, "train")

    @functools.cached_property
    def _slices(self) -> dict[str, HeldOut]:
        arguments = self._arguments
        return {
            "tune": load_scenes("val", num=arguments.num_tune, size=arguments.image_size),
            "test": load_scenes("eval", num=arguments.num_test, size=arguments.image_size),
        }

    def cell(self, name: str, make: Callable[[], dict]) -> dict:
        """What the file of this cell says; it is made first if it is not there."""
        path = files.join(self._arguments.out, f"{name}.json")
        if not files.exists(path):
            start = time.perf_counter()
            made = make()
            files.write_json(path, {**made, "seconds": time.perf_counter() - start})
            keras.backend.clear_session()
            print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
        return documents.read_json(path)

    def train(self, side: str, rate: float, *, seed: int) -> dict:
        """The AP curve of one run: {"curve": [{"step", "tune": {..}, "test": {..}}], ..}."""
        make = {"stock": self._train_stock, "ours": self._train_ours}[side]
        name = f"{side}-lr{rate:g}-seed{seed}"
        return self.cell(name, lambda: {"curve": make(rate, seed), "rate": rate, "seed": seed})

    def measure_speed(self) -> dict:
        """Rounds of both sides in turn, without input pipeline, tracing and validation."""
        ours = self._build(seed=0)
        stock = self._build_stock(seed=0)
        batches = _in_memory(self._batches(0), num=_FIXED_BATCHES)
        rounds = {
            "stock": self._stock_rounds(stock, batches),
            "ours": self._our_rounds(ours, batches),
        }
        found = {side: [] for side in rounds}
        for number in range(self._arguments.rounds):
            for side, one in rounds.items():
                found[side].append(next(one))
                print(f"round {number}, {side}: {found[side][-1]}", flush=True)
        return found

    def _build(self, *, seed: int) -> Network:
        size = (self._arguments.image_size, self._arguments.image_size)
        return zoo.build(
            self._arguments.network, class_names=CLASS_NAMES, image_size=size, seed=seed
        )

    def _build_stock(self, *, seed: int, rate: float = 1e-3) -> Network:
        family, small = self._arguments.family, self._arguments.small_anchors
        stock = stock_kerascv.build_stock(
            self._build(seed=seed), family=family, small_anchors=small
        )
        stock_kerascv.compile_stock(stock, family=family, learning_rate=rate)
        return stock

    def _batches(self, start_step: int, *_: int, seed: int = 0) -> tf.data.Dataset:
        return training_batches(
            self._records,
            class_names=CLASS_NAMES,
            image_size=(self._arguments.image_size, self._arguments.image_size),
            batch_size=self._arguments.batch_size,
            seed=seed,
            start_step=start_step,
            augment=AugmentSettings(flip=0.5),
            select=SelectSettings(),
            max_boxes=32,
        )

    def _settings(self, *, rate: float, seed: int) -> TrainSettings:
        defaults, steps = config.Config(), self._arguments.steps
        return TrainSettings(
            steps=steps,
            batch_size=self._arguments.batch_size,
            learning_rate=rate,
            warmup_steps=round(steps * defaults.warmup_fraction),
            decay_steps=round(steps * defaults.decay_fraction),
            weight_decay=defaults.weight_decay,
            clip_norm=defaults.clip_norm,
            ema_decay=defaults.ema_decay,
            steps_per_call=defaults.steps_per_call,
            eval_every=self._arguments.eval_every,
            checkpoint_every=0,
            seed=seed,
        )

    def _train_ours(self, rate: float, seed: int) -> list[dict]:
        curve, every = [], self._arguments.eval_every
        detectors = {}

        def validate(network: Network) -> float:
            detector = detectors.setdefault("one", NetworkDetector(network, batch_size=25))
            curve.append(self._score(detector, step=every * (len(curve) + 1)))
            return curve[-1]["tune"]["AP"]

        with tempfile.TemporaryDirectory() as folder:
            loop.train(
                build=lambda: self._build(seed=seed),
                batches=functools.partial(self._batches, seed=seed),
                settings=self._settings(rate=rate, seed=seed),
                folder=folder,
                validate=validate,
                strategy=self._strategy,
            )
        return curve

    def _train_stock(self, rate: float, seed: int) -> list[dict]:
        curve, every = [], self._arguments.eval_every
        stock = self._build_stock(seed=seed, rate=rate)
        detector = NetworkDetector(stock, batch_size=25)

        def note(epoch: int, logs: dict) -> None:
            step = every * (epoch + 1)
            if step % self._arguments.steps in (0, self._arguments.steps // 2):
                curve.append(self._score(detector, step=step))

        stock.model.fit(
            self._batches(0, seed=seed).map(stock_kerascv.to_stock),
            steps_per_epoch=every,
            epochs=self._arguments.stock_steps // every,
            callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=note)],
            shuffle=False,
            verbose=0,
        )
        return curve

    def _score(self, detector: NetworkDetector, *, step: int) -> dict:
        scores = {name: one.score(detector) for name, one in self._slices.items()}
        print(f"  step {step}: {scores}", flush=True)
        return {"step": step, **scores}

    def _stock_rounds(self, stock: Network, batches: tf.data.Dataset) -> Iterator[dict]:
        data = batches.map(stock_kerascv.to_stock).prefetch(2)
        count = self._arguments.round_steps + _WARM_UP_STEPS
        while True:
            clocks: list[Clock] = []
            note = keras.callbacks.LambdaCallback(
                on_train_batch_end=lambda batch, logs, clocks=clocks: clocks.append(Clock.now())
            )
            stock.model.fit(data, steps_per_epoch=count, callbacks=[note], shuffle=False, verbose=0)
            images = self._arguments.round_steps * self._arguments.batch_size
            yield clocks[_WARM_UP_STEPS - 1].until(clocks[-1], images=images)

    def _our_rounds(self, ours: Network, batches: tf.data.Dataset) -> Iterator[dict]:
        settings = self._settings(rate=1e-3, seed=0)
        state = train_step.build_state(ours, settings=settings)
        updates = calls.build_call(state, settings=settings, strategy=self._strategy)
        data = iter(
            strategies.distribute(lambda *_: batches, start_step=0, strategy=self._strategy)
        )
        steps, count = self._arguments.round_steps, settings.steps_per_call
        while True:
            updates(data, first_step=0, count=_WARM_UP_STEPS)
            start = Clock.now()
            for first in range(0, steps, count):
                updates(data, first_step=first, count=min(count, steps - first))
            yield start.until(Clock.now(), images=steps * self._arguments.batch_size)


@dataclasses.dataclass(frozen=True)
class Clock:
    """Wall and processor time of this process, seconds."""

    wall_s: float
    processor_s: float

    @staticmethod
    def now() -> "Clock":
        """This moment."""
        return Clock(time.perf_counter(), time.process_time())

    def until(self, end: "Clock", *, images: int) -> dict[str, float]:
        """The cost of `images` between two moments; processor time ignores other programs."""
        return {
            "images_per_s": images / (end.wall_s - self.wall_s),
            "core_ms_per_image": 1000 * (end.processor_s - self.processor_s) / images,
        }


def _in_memory(batches: tf.data.Dataset, *, num: int) -> tf.data.Dataset:
    """The first batches, over and over, at no cost."""
    rows = list(batches.take(num))
    stacked = {name: np.stack([row[name].numpy() for row in rows]) for name in rows[0]}
    return tf.data.Dataset.from_tensor_slices(stacked).repeat()
