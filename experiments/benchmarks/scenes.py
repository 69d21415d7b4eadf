"""How fast are embedded scenes drawn, on one core?

Command: python experiments/benchmarks/scenes.py
Expected time: 10 s. Expected number: at least 300 images/s per core in every domain (160 px).
No matrix product is used, so NumPy starts no threads; the time is this process's CPU time.
"""

import time
from collections.abc import Callable

from kd_tf.data.scenes import DOMAINS, encode_png, render_scene, scene_labels

IMAGES = 300
ROUNDS = 3


def images_per_s(make: Callable[[int], object]) -> float:
    """The best of some rounds, in calls per second of CPU time."""
    best = 0.0
    for _ in range(ROUNDS):
        start = time.process_time()
        for index in range(IMAGES):
            make(index)
        best = max(best, IMAGES / (time.process_time() - start))
    return best


def main() -> None:
    """Prints images/s per core for each domain, for labels alone and for the PNG."""
    image, _ = render_scene(seed=0, index=0)
    for domain in DOMAINS:
        rate = images_per_s(
            lambda index, domain=domain: render_scene(seed=0, index=index, domain=domain)
        )
        print(f"{domain:8s} {rate:8.0f} images/s per core")
    print(f"labels   {images_per_s(lambda index: scene_labels(seed=0, index=index)):8.0f} images/s")
    print(f"PNG      {images_per_s(lambda index: encode_png(image)):8.0f} images/s")


if __name__ == "__main__":
    main()
