"""Counts the images that a teacher cannot be shown, and stops where they are too many."""

import concurrent.futures
import dataclasses
import os
from collections.abc import Iterator

from absl import logging

from kd_tf import progress
from kd_tf.data.batches import Facts, load
from kd_tf.data.items import Source
from kd_tf.data.rejects import AT_LIMIT, IN_PADDING, check_fraction, count_rejects
from kd_tf.manifests import Counts
from kd_tf.teachers.predictions import Prediction

# An image whose last kept detection has this score holds more objects than are kept.
TELLING_SCORE = 0.25


@dataclasses.dataclass(frozen=True, slots=True)
class Work:
    """How a job is cut and who does which part.

    Attributes:
        num_shards: Files the result is written to; shard k holds consecutive rows.
        worker_index, num_workers: This worker does the shards k with
            k % num_workers == worker_index. Another number of workers may finish the job.
        batch_size: Images a teacher sees at once.
        max_bad_fraction: The job stops when a greater share of images is unusable.
        max_detections: Most detections kept of an image, best first.
    """

    num_shards: int
    worker_index: int = 0
    num_workers: int = 1
    batch_size: int = 16
    max_bad_fraction: float = 0.01
    max_detections: int = 100

    def shards(self) -> range:
        """The shards of this worker."""
        return range(self.worker_index, self.num_shards, self.num_workers)


@dataclasses.dataclass(frozen=True)
class Limit:
    """Stops the job when too many of all its images are unusable."""

    source: Source
    name: str
    folder: str
    work: Work

    def check(self, counts: Counts) -> None:
        """Raises UserError above the limit."""
        left_out = sum(reject.whole_image for reject in self.source.rejects)
        check_fraction(
            counts,
            max_bad_fraction=self.work.max_bad_fraction,
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
            count(counts, prediction, max_detections=self.work.max_detections)
            if prediction.reason:
                self.check(counts)
            bar.update()
            yield prediction


def listed(source: Source) -> Counts:
    """Counts that hold the images that listing left out; people's boxes are not looked at."""
    counts = Counts()
    count_rejects(counts, (reject for reject in source.rejects if reject.whole_image))
    return counts


def count(counts: Counts, stored: Prediction, *, max_detections: int) -> None:
    """Adds what became of one image."""
    counts.seen += 1
    if stored.reason:
        counts.skip(stored.reason, stored.key, detail=stored.detail)
    else:
        counts.written += 1
    scores = stored.detections.scores
    if len(scores) >= max_detections and scores.min() >= TELLING_SCORE:
        counts.skip(AT_LIMIT, stored.key, whole_image=False)
    if stored.num_outside:
        counts.skipped_boxes[IN_PADDING] += stored.num_outside
