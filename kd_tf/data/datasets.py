"""How this project runs tf.data: in order, on all cores, without its autotuner."""

import os

import tensorflow as tf

# Two at least, so that decoding goes on while one call waits for a file.
PARALLEL_CALLS = max(2, os.cpu_count() or 1)


def options() -> tf.data.Options:
    """Options of every data set here.

    The autotuner's thread sleeps for up to a minute at a time, and an iterator that goes away
    waits for it: a pipeline read for 100 s took 42 s to delete.
    """
    chosen = tf.data.Options()
    chosen.deterministic = True
    chosen.autotune.enabled = False
    return chosen
