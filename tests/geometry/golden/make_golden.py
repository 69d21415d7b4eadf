"""Makes the golden arrays of this folder with public libraries; run by hand, not by the tests.

    python3.11 -m venv golden && golden/bin/pip install torch==2.13.0 numpy==2.4.6 \
        opencv-python-headless==5.0.0.93 && golden/bin/pip install --no-deps torchvision==0.28.0
    golden/bin/python tests/geometry/golden/make_golden.py

Made with torchvision 0.28.0 on torch 2.13.0 (losses) and OpenCV 5.0.0 (suppression).
torchvision's own suppression is compiled; its wheel needs CUDA's libraries and did not load
on the machine where this ran; the losses are plain Python and do without. OpenCV's
NMSBoxesBatched stands in: greedy, per class.
"""

import pathlib

import cv2
import numpy as np
import torch

FOLDER = pathlib.Path(__file__).parent
# Stubs for the compiled operators are of no use without the operators.
torch.library.register_fake = lambda *args, **kwargs: lambda function: function

import torchvision  # noqa: E402
from torchvision.ops import (  # noqa: E402
    complete_box_iou_loss,
    generalized_box_iou_loss,
    sigmoid_focal_loss,
)


def random_boxes(rng: np.random.Generator, num: int, *, size: float) -> np.ndarray:
    """Boxes [num, 4] float32 xyxy, partly outside [0, size]."""
    corners = rng.uniform(-0.1 * size, 0.8 * size, (num, 2))
    return np.concatenate([corners, corners + rng.uniform(1.0, size / 2, (num, 2))], 1).astype(
        np.float32
    )


def losses(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Focal, CIoU and GIoU losses with their gradients."""
    logits = torch.tensor(rng.uniform(-12, 12, 200).astype(np.float32), requires_grad=True)
    targets = torch.tensor(rng.integers(0, 2, 200).astype(np.float32))
    focal = sigmoid_focal_loss(logits, targets, alpha=0.25, gamma=2.0)
    made = {
        "focal_logits": logits.detach().numpy(),
        "focal_targets": targets.numpy(),
        "focal": focal.detach().numpy(),
        "focal_gradient": torch.autograd.grad(focal.sum(), logits)[0].numpy(),
    }
    first, second = random_boxes(rng, 200, size=64), random_boxes(rng, 200, size=64)
    second[:20] = first[:20] + rng.uniform(-2, 2, (20, 4)).astype(np.float32)
    second[20] = first[20]
    made |= {"boxes_a": first, "boxes_b": second}
    for name, loss in (("ciou", complete_box_iou_loss), ("giou", generalized_box_iou_loss)):
        boxes = torch.tensor(first, requires_grad=True)
        values = loss(boxes, torch.tensor(second))
        made[f"{name}_loss"] = values.detach().numpy()
        made[f"{name}_gradient"] = torch.autograd.grad(values.sum(), boxes)[0].numpy()
    return made


def suppression(rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Rows that greedy suppression per class keeps, best first, for three thresholds."""
    boxes = random_boxes(rng, 150, size=100)
    boxes[50:100] = boxes[:50] + rng.uniform(-4, 4, (50, 4)).astype(np.float32)
    scores = rng.permutation(150).astype(np.float32) / 150 * 0.9 + 0.05
    classes = rng.integers(0, 3, 150).astype(np.int32)
    xywh = np.concatenate([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]], axis=1).astype(np.float64)
    made = {"boxes": boxes, "scores": scores, "classes": classes}
    for threshold in (0.3, 0.5, 0.7):
        kept = cv2.dnn.NMSBoxesBatched(xywh, scores, classes, 0.0, threshold)
        kept = np.asarray(kept, np.int32).reshape(-1)
        made[f"kept_{threshold}"] = kept[np.argsort(-scores[kept])]
    return made


if __name__ == "__main__":
    print("torch", torch.__version__, "torchvision", torchvision.__version__, cv2.__version__)
    np.savez_compressed(FOLDER / "losses.npz", **losses(np.random.default_rng(7)))
    np.savez_compressed(FOLDER / "suppression.npz", **suppression(np.random.default_rng(8)))
