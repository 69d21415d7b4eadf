"""Typed values of a `tf.train.Example` that anyone may have written."""

from collections.abc import Mapping, Sequence

import numpy as np
import tensorflow as tf

from kd_tf.errors import RejectedError


class FeatureReader:
    """Values of an example by key; an absent key has none.

    Raises:
        RejectedError: From every method, for values of another type than the key has.
    """

    def __init__(self, features: Mapping[str, tf.train.Feature]):
        self._features = features

    def has(self, key: str) -> bool:
        """Whether the key has a value."""
        return key in self._features and bool(self.list(key))

    def list(self, key: str, *kinds: str) -> Sequence:
        """The values of a key, which are of one of `kinds` (any, if none is named)."""
        if key not in self._features:
            return []
        feature = self._features[key]
        kind = feature.WhichOneof("kind")
        if kind is None:
            return []
        values = getattr(feature, kind).value
        if kinds and len(values) and kind not in kinds:
            raise RejectedError(
                "field of the wrong type", f"{key} holds a {kind}, not {' or '.join(kinds)}"
            )
        return values

    def number(self, key: str) -> int:
        """The first integer of a key; 0 where there is none."""
        values = self.list(key, "int64_list")
        return values[0] if len(values) else 0

    def bytes(self, key: str) -> bytes:
        """The first byte string of a key; empty where there is none."""
        values = self.list(key, "bytes_list")
        return values[0] if len(values) else b""

    def text(self, key: str) -> str:
        """The first text of a key; empty where there is none."""
        return self.bytes(key).decode("utf-8", "replace")

    def texts(self, key: str) -> Sequence[str]:
        """All texts of a key."""
        return [value.decode("utf-8", "replace") for value in self.list(key, "bytes_list")]

    def array(self, key: str, *, num: int, default: float) -> np.ndarray:
        """The numbers [num] of a key, `default` where it has none.

        Raises:
            RejectedError: "lists of different lengths": it has another number of them.
        """
        values = self.list(key, "float_list", "int64_list")
        if len(values) in (0, num):
            return np.array(values) if len(values) else np.full(num, default)
        raise RejectedError(
            "lists of different lengths", f"{key} has {len(values)} values for {num} objects"
        )
