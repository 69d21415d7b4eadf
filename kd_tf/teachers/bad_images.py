"""Counts the images that a teacher cannot be shown, and stops where they are too many."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Iterator

from absl import logging

from kd_tf import progress
from kd_tf.data.batches import Facts, load
from kd_tf.data.items import Source
from kd_tf.data.rejects import check_fraction, count_rejects
from kd_tf.manifests import Counts
from kd_tf.teachers.predictions import Prediction


@dataclasses.dataclass(frozen=True)
class Limit:
    """Stops the job when too many of all its images are unusable."""

    source: Source
    name: str
    folder: str
    max_bad_fraction: float

    def check(self, counts: Counts) -> None:
        """Raises UserError above the limit."""
        left_out = sum(reject.whole_image for reject in self.source.rejects)
        check_fraction(
            counts,
            max_bad_fraction=self.max_bad_fraction,
            where=f"teacher {self.name}",
            num_images=len(self.source.items) + left_out,
            folder=self.folder,
            look_at_all=self._look_at_all,
        )

    def _look_at_all(self) -> Counts:
        """What cannot be used among all images, which costs decoding but no teacher."""
        counts, rows = listed(self.source), range(len(self.source.items))
        logging.info("%s: looks for further images that cannot be used.", self.name)
        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for row, facts in zip(rows, pool.map(self._facts, rows), strict=True):
                if facts.reason:
                    what = self.source.key(self.source.items[row])
                    counts.skip(facts.reason, what, detail=facts.detail)
        return counts

    def _facts(self, row: int) -> Facts:
        return load(self.source, row)[1]

    def watch(
        self, stored: Iterator[Prediction], *, counts: Counts, bar: progress.tqdm.tqdm
    ) -> Iterator[Prediction]:
        """The predictions as they come, counted."""
        for prediction in stored:
            count(counts, prediction)
            if prediction.reason:
                self.check(counts)
            bar.update()
            yield prediction


def listed(source: Source) -> Counts:
    """Counts that hold what listing left out."""
    counts = Counts()
    count_rejects(counts, source.rejects)
    return counts


def count(counts: Counts, stored: Prediction) -> None:
    """Adds what became of one image."""
    counts.seen += 1
    if stored.reason:
        counts.skip(stored.reason, stored.key, detail=stored.detail)
    else:
        counts.written += 1
    if stored.num_outside:
        counts.skipped_boxes["in the padding, outside the image"] += stored.num_outside
