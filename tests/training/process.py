"""One training process of the tests: `python -m tests.training.process ARGUMENTS.json`."""

import dataclasses
import json
import os
import pathlib
import subprocess
import sys
import time

import numpy as np
import tensorflow as tf

from kd_tf.training import loop
from kd_tf.training import strategy as strategies
from kd_tf.training.settings import TrainSettings
from tests.training import fakes

ROOT = pathlib.Path(__file__).parents[2]


@dataclasses.dataclass(frozen=True)
class Arguments:
    """What one process does.

    Attributes:
        folder: Of the run; its weights end up in `weights`.
        settings: Of the run.
        weights: An .npz to write.
        strategy: A name for `build_strategy`.
        replicas: Logical CPUs.
        frozen: BatchNorm's arrays stay.
        pause_s: Seconds that each batch takes.
        breaks: Steps whose data raises, the first time they are asked for; the run is
            then started again in the same process.
    """

    folder: str
    settings: dict
    weights: str
    strategy: str = "one"
    replicas: int = 1
    frozen: bool = False
    pause_s: float = 0.0
    breaks: tuple[int, ...] = ()


def start(arguments: Arguments, *, tf_config: dict | None = None) -> subprocess.Popen:
    """Starts the process; its output goes to `<weights>.log`."""
    path = pathlib.Path(arguments.weights + ".json")
    path.write_text(json.dumps(dataclasses.asdict(arguments)))
    env = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "1", "CUDA_VISIBLE_DEVICES": ""}
    if tf_config is not None:
        env["TF_CONFIG"] = json.dumps(tf_config)
    with open(arguments.weights + ".log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "tests.training.process", str(path)],
            cwd=ROOT,
            env=env,
            stdout=log,
            stderr=subprocess.STDOUT,
        )


def log_of(arguments: Arguments) -> str:
    """All that processes with these arguments have said."""
    return pathlib.Path(arguments.weights + ".log").read_text(errors="replace")


def weights_of(arguments: Arguments) -> list[np.ndarray]:
    """The weights that a finished process wrote."""
    stored = np.load(arguments.weights)
    return [stored[f"arr_{i}"] for i in range(len(stored.files))]


def main(arguments: Arguments) -> None:
    """Trains until done and writes the weights."""
    (cpu,) = tf.config.list_physical_devices("CPU")
    logical = [tf.config.LogicalDeviceConfiguration()] * arguments.replicas
    tf.config.set_logical_device_configuration(cpu, logical)
    tf.config.experimental.enable_op_determinism()
    strategy = strategies.build_strategy(arguments.strategy)
    breaks = list(arguments.breaks)

    def before(step: int) -> None:
        time.sleep(arguments.pause_s)
        if step in breaks:
            breaks.remove(step)
            raise RuntimeError("the machine went away")

    while True:
        try:
            result = _train(arguments, strategy, before)
            break
        except tf.errors.UnknownError as error:
            print("interrupted:", "the machine went away" in str(error), flush=True)
    with open(arguments.weights, "wb") as file:
        np.savez(file, *fakes.weights(result.network))
    print(f"finished with {strategy.num_replicas_in_sync} replicas", flush=True)


def _train(arguments, strategy, before):
    settings = TrainSettings(**arguments.settings)
    return loop.train(
        build=lambda: fakes.build(frozen=arguments.frozen),
        batches=fakes.batches(batch_size=settings.batch_size, before=before),
        settings=settings,
        folder=arguments.folder,
        validate=fakes.validate,
        strategy=strategy,
    )


if __name__ == "__main__":
    with open(sys.argv[1]) as stored:
        main(Arguments(**json.load(stored)))
