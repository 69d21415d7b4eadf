"""tf.distribute strategies by name, and how a batch is laid out over their replicas."""

import json
import os
from collections.abc import Callable

import tensorflow as tf

from kd_tf.errors import UserError
from kd_tf.training.settings import STRATEGIES, TrainSettings

Batches = Callable[[int, int, int], tf.data.Dataset]

_TF_CONFIG_EXAMPLE = (
    '{"cluster": {"worker": ["host0:2222", "host1:2222"]}, "task": {"type": "worker", "index": 0}}'
)
# Of the images' source, for messages only: strings cannot enter a TPU step.
IDS = "ids"


def build_strategy(name: str, *, tpu: str = "local") -> tf.distribute.Strategy:
    """The strategy of a run. `multi_worker` and `tpu` must come before any other TensorFlow op.

    Args:
        name: One of `settings.STRATEGIES`: `one` = the first GPU, else the CPU;
            `mirrored` = all local GPUs, else all (logical) CPUs; `multi_worker` =
            the processes of TF_CONFIG; `tpu` = all cores of one TPU.
        tpu: Name or address of the TPU; "local" on a TPU VM.

    Raises:
        UserError: Unknown name, TF_CONFIG missing or malformed, no TPU found.
    """
    builders = {
        "one": _build_one,
        "mirrored": _build_mirrored,
        "multi_worker": _build_multi_worker,
        "tpu": lambda: _build_tpu(tpu),
    }
    if name not in builders:
        raise UserError(f"strategy must be one of {', '.join(STRATEGIES)}, got {name!r}.")
    return builders[name]()


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes checkpoints and validates; always so without workers."""
    return worker_index(strategy) == 0


def num_workers(strategy: tf.distribute.Strategy) -> int:
    """Processes that take part in the run."""
    resolver = strategy.cluster_resolver
    if not isinstance(strategy, tf.distribute.MultiWorkerMirroredStrategy) or resolver is None:
        return 1
    spec = resolver.cluster_spec()
    return max(1, sum(spec.num_tasks(job) for job in spec.jobs if job in ("chief", "worker")))


def worker_index(strategy: tf.distribute.Strategy) -> int:
    """This process' place among the workers, 0 for the chief."""
    if num_workers(strategy) == 1:
        return 0
    resolver = strategy.cluster_resolver
    has_chief = "chief" in resolver.cluster_spec().jobs
    return resolver.task_id + (1 if has_chief and resolver.task_type == "worker" else 0)


def check(strategy: tf.distribute.Strategy, *, settings: TrainSettings) -> None:
    """Refuses settings that this strategy cannot run, before any work starts.

    Raises:
        UserError: The batch cannot be cut evenly, or XLA is asked for where it fails.
    """
    replicas = strategy.num_replicas_in_sync
    if settings.batch_size % (replicas * settings.accumulate):
        raise UserError(
            f"batch_size {settings.batch_size} cannot be cut evenly over {replicas} replicas "
            f"with accumulate={settings.accumulate}; use a multiple of "
            f"{replicas * settings.accumulate}."
        )
    mirrored = (tf.distribute.MirroredStrategy, tf.distribute.MultiWorkerMirroredStrategy)
    if settings.jit_compile and isinstance(strategy, mirrored):
        raise UserError(
            "jit_compile does not work under the strategies mirrored and multi_worker "
            "(XLA cannot read another replica's variables: keras issue 21366). "
            "Use strategy one or tpu, or leave jit_compile off."
        )


def build_agreement(strategy: tf.distribute.Strategy) -> Callable[[bool], bool]:
    """A function that every worker calls, and that tells all whether any of them said True.

    It also waits until all have called it. Without other workers it is the identity.
    """
    if num_workers(strategy) == 1:
        return bool

    def count(flag: tf.Tensor) -> tf.Tensor:
        replica = tf.distribute.get_replica_context()
        # The identity gives the flag a device, which the all-reduce asks for.
        return replica.all_reduce(tf.distribute.ReduceOp.SUM, tf.identity(flag))

    @tf.function
    def total(flag: tf.Tensor) -> tf.Tensor:
        return strategy.experimental_local_results(strategy.run(count, args=(flag,)))[0]

    return lambda flag: bool(total(tf.constant(float(flag))).numpy() > 0.0)


def distribute(
    batches: Batches, *, start_step: int, strategy: tf.distribute.Strategy
) -> tf.data.Dataset | tf.distribute.DistributedDataset:
    """The batches from `start_step` on, without ids, laid out over the replicas.

    Replica r of a worker gets the r-th contiguous part of that worker's batch, so the
    global batch of a step does not depend on the number of replicas.
    """

    def per_replica(context: tf.distribute.InputContext) -> tf.data.Dataset:
        workers = context.num_input_pipelines
        local = context.num_replicas_in_sync // workers
        dataset = batches(start_step, context.input_pipeline_id, workers)
        dataset = dataset.map(_without_ids)
        _check_static(dataset)
        if local > 1:
            dataset = dataset.map(lambda batch: _cut(batch, parts=local)).unbatch()
        # With a known end the multi-worker iterator forgets the static batch size.
        dataset = dataset.apply(
            tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
        )
        return dataset.prefetch(2 * local)

    return strategy.distribute_datasets_from_function(per_replica)


def _without_ids(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
    return {name: rows for name, rows in batch.items() if name != IDS}


def _cut(batch: dict[str, tf.Tensor], *, parts: int) -> dict[str, tf.Tensor]:
    return {
        name: tf.reshape(rows, [parts, rows.shape[0] // parts, *rows.shape[1:]])
        for name, rows in batch.items()
    }


def _check_static(dataset: tf.data.Dataset) -> None:
    for name, spec in dataset.element_spec.items():
        if not spec.shape.is_fully_defined():
            raise ValueError(
                f"Batches must have static shapes, {name!r} has {spec.shape}; "
                "use drop_remainder=True and set_shape."
            )


def _build_one() -> tf.distribute.Strategy:
    device = "/gpu:0" if tf.config.list_logical_devices("GPU") else "/cpu:0"
    return tf.distribute.OneDeviceStrategy(device)


def _build_mirrored() -> tf.distribute.Strategy:
    kind = "GPU" if tf.config.list_logical_devices("GPU") else "CPU"
    return tf.distribute.MirroredStrategy(
        [device.name for device in tf.config.list_logical_devices(kind)]
    )


def _build_multi_worker() -> tf.distribute.Strategy:
    text = os.environ.get("TF_CONFIG", "")
    try:
        config = json.loads(text)
        complete = bool(config["cluster"]) and {"type", "index"} <= config["task"].keys()
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UserError(_tf_config_message(text)) from error
    if not complete:
        raise UserError(_tf_config_message(text))
    # Asking for logical devices would start the context too early, hence physical ones.
    has_gpu = bool(tf.config.list_physical_devices("GPU"))
    kinds = tf.distribute.experimental.CommunicationImplementation
    options = tf.distribute.experimental.CommunicationOptions(
        implementation=kinds.AUTO if has_gpu else kinds.RING
    )
    return tf.distribute.MultiWorkerMirroredStrategy(communication_options=options)


def _tf_config_message(text: str) -> str:
    return (
        "strategy multi_worker reads the environment variable TF_CONFIG, "
        f"which is {text!r}. Start every worker with its own index, for example "
        f"TF_CONFIG='{_TF_CONFIG_EXAMPLE}'."
    )


def _build_tpu(address: str) -> tf.distribute.Strategy:
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=address)
        if address != "local":
            tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (ValueError, RuntimeError, OSError, tf.errors.OpError) as error:
        raise UserError(
            f"No TPU found at {address!r} ({str(error).splitlines()[0]}). On a TPU VM install "
            "the requirements for TPU (tensorflow-tpu instead of tensorflow) and leave the "
            "address at 'local'; elsewhere use strategy one or mirrored."
        ) from error
    return tf.distribute.TPUStrategy(resolver)
