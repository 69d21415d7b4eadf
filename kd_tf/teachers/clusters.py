"""Greedy clustering of boxes, step by step in all groups (image and class) at once.

Box t of every group is compared with the clusters of its group in one array operation, so
the cost is that of the largest group, not of the number of boxes in Python.
"""

import dataclasses

import numpy as np

# Rather than dividing by zero for an empty slot.
_TINY = 1e-12


@dataclasses.dataclass(frozen=True, slots=True)
class Groups:
    """Boxes of G groups as padded arrays, best first; groups by size, largest first.

    Attributes:
        boxes: [4, M, G] float32 xyxy; M is the size of the largest group. Padding is 0.
        scores: [M, G] float64, descending along M; padding is 0.
        rows: [M, G] int64, the row in the arrays they were made of; -1 is padding.
        active: [M] int64, how many groups have a box number m.
    """

    boxes: np.ndarray
    scores: np.ndarray
    rows: np.ndarray
    active: np.ndarray


@dataclasses.dataclass(frozen=True, slots=True)
class Clusters:
    """Clusters of all groups, K in all.

    Attributes:
        boxes: [K, 4] float32: the score-weighted mean of each teacher's best box in it, or the
            best box of all.
        score_sums: [K] float64, of each teacher's best box in it.
        num_teachers: [K] int64, how many teachers have a box in it.
        first: [K] int64, row of its best box.
        members: [N] int64, the cluster of every row.
    """

    boxes: np.ndarray
    score_sums: np.ndarray
    num_teachers: np.ndarray
    first: np.ndarray
    members: np.ndarray


def to_groups(boxes: np.ndarray, scores: np.ndarray, *, groups: np.ndarray) -> Groups:
    """Sorts boxes [N, 4] into groups: `groups` [N] int64 says which; equal scores keep order."""
    order = np.lexsort((-scores, groups))
    _, starts, sizes = np.unique(groups[order], return_index=True, return_counts=True)
    by_size = np.argsort(-sizes, kind="stable")
    place = np.empty(len(sizes), np.int64)
    place[by_size] = np.arange(len(sizes))
    column = np.repeat(place, sizes)
    rank = np.arange(len(order)) - np.repeat(starts, sizes)
    shape = (int(sizes.max()), len(sizes))
    padded = np.zeros((4, *shape), np.float32)
    padded[:, rank, column] = boxes[order].T
    padded_scores = np.zeros(shape)
    padded_scores[rank, column] = scores[order]
    rows = np.full(shape, -1, np.int64)
    rows[rank, column] = order
    return Groups(padded, padded_scores, rows, (rows >= 0).sum(axis=1))


def cluster(
    groups: Groups, *, teachers: np.ndarray, iou_threshold: float, average: bool
) -> Clusters:
    """Puts each box, best first, into the cluster it overlaps most, or makes a new one.

    A teacher's second box in a cluster is a near-duplicate of its first, which its own
    suppression left over: it is a member, and changes neither box nor score.

    Args:
        groups: At least one box.
        teachers: [N] int64, whose box each row is.
        iou_threshold: A cluster must overlap more than this.
        average: Compare with the running mean of a cluster (weighted boxes fusion) instead
            of its best box (which is greedy NMS: members after the first are suppressed).

    Returns:
        The clusters.
    """
    size, num_groups = groups.scores.shape
    means = np.zeros((4, size, num_groups), np.float32)
    sums = np.zeros((4, size, num_groups))
    score_sums = np.zeros((size, num_groups))
    present = np.zeros((int(teachers.max()) + 1, size, num_groups), bool)
    counts = np.zeros(num_groups, np.int64)
    slots = np.zeros((size, num_groups), np.int64)
    for step in range(size):
        num = groups.active[step]
        boxes, columns = groups.boxes[:, step, :num], np.arange(num)
        used = int(counts[:num].max()) if step else 0
        best, overlap = _best_overlap(means[:, :used, :num], boxes)
        slot = np.where(overlap > iou_threshold, best, counts[:num])
        slots[step, :num] = slot
        teacher = teachers[groups.rows[step, :num]]
        scores = np.where(present[teacher, slot, columns], 0.0, groups.scores[step, :num])
        present[teacher, slot, columns] = True
        score_sums[slot, columns] += scores
        if average:
            sums[:, slot, columns] += scores * boxes
            means[:, slot, columns] = sums[:, slot, columns] / np.maximum(
                score_sums[slot, columns], _TINY
            )
        else:
            fresh = slot == counts[:num]
            means[:, slot[fresh], columns[fresh]] = boxes[:, fresh]
        counts[:num] += slot == counts[:num]
    return _collect(groups, means, score_sums, counts, slots, num_teachers=present.sum(axis=0))


def _best_overlap(means: np.ndarray, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """For each group the cluster [G] that overlaps its box most, and the IoU [G]."""
    if not means.shape[1]:
        return np.zeros(boxes.shape[1], np.int64), np.zeros(boxes.shape[1], np.float32)
    overlaps = _iou(means, boxes[:, None, :])
    best = overlaps.argmax(axis=0)
    return best, overlaps[best, np.arange(len(best))]


def _iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """IoU of boxes [4, ...] that broadcast; 0 where a box has no area."""
    width = np.minimum(first[2], second[2])
    width -= np.maximum(first[0], second[0])
    np.maximum(width, 0.0, out=width)
    height = np.minimum(first[3], second[3])
    height -= np.maximum(first[1], second[1])
    np.maximum(height, 0.0, out=height)
    width *= height
    union = (first[2] - first[0]) * (first[3] - first[1])
    union = union + (second[2] - second[0]) * (second[3] - second[1])
    union -= width
    np.maximum(union, _TINY, out=union)
    width /= union
    return width


def _collect(
    groups: Groups,
    means: np.ndarray,
    score_sums: np.ndarray,
    counts: np.ndarray,
    slots: np.ndarray,
    *,
    num_teachers: np.ndarray,
) -> Clusters:
    real = groups.rows >= 0
    step, column = np.nonzero(real)
    exists = np.arange(len(slots))[:, None] < counts
    numbers = np.cumsum(exists.ravel()).reshape(exists.shape) - 1
    cluster_of = numbers[slots[step, column], column]
    members = np.empty(len(step), np.int64)
    members[groups.rows[step, column]] = cluster_of
    first = np.empty(int(counts.sum()), np.int64)
    # Steps ascend, so written backwards the best box of each cluster stays.
    first[cluster_of[::-1]] = groups.rows[step, column][::-1]
    return Clusters(
        means[:, exists].T,
        score_sums[exists],
        num_teachers[exists],
        first,
        members,
    )


def soft_suppress(groups: Groups, *, sigma: float) -> np.ndarray:
    """The factor [N] by which soft-NMS lowers the score of every row.

    Source: Bodla et al., arXiv 1704.04503, equation 4 (Gaussian).
    """
    decays = np.ones(int((groups.rows >= 0).sum()))
    scores = np.maximum(groups.scores, _TINY).astype(np.float32)
    # What is left of each score; below zero once a box has been chosen.
    left = np.where(groups.rows < 0, np.float32(-1), scores)
    for num in groups.active:
        columns = np.arange(num)
        best = left[:, :num].argmax(axis=0)
        decays[groups.rows[best, columns]] = left[best, columns] / scores[best, columns]
        left[best, columns] = -1
        overlaps = _iou(groups.boxes[:, :, :num], groups.boxes[:, best, columns][:, None, :])
        np.multiply(overlaps, overlaps, out=overlaps)
        overlaps *= np.float32(-1.0 / sigma)
        left[:, :num] *= np.exp(overlaps, out=overlaps)
    return decays
