"""Does labelling need more memory for more images?

    python -m experiments.benchmarks.memory      # 10 minutes on 2 cores

Question: the peak resident memory of `--stage=pseudo` with two teachers, fused, records
written, on 1,000 and on 20,000 JPEG files (scenes). Expected: at 20,000 at most that at 1,000 plus
1 KB an image, within 10 %.

Each size is a process of its own. The teachers are small untrained networks, which find as much as
a teacher may: some 100 boxes above the score floor in every image.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from PIL import Image

from kd_tf import files, manifests, progress
from kd_tf.data.scenes import CLASS_NAMES, render_scene
from kd_tf.detectors import saving, zoo

_SIDE, _KB_PER_IMAGE, _TOLERANCE = 64, 1.0, 0.10


def write_jpegs(folder: str, *, num: int) -> None:
    """Scenes 0..num-1 as JPEG files of quality 90."""
    for index in progress.follow(range(num), total=num, unit="images", description="JPEG files"):
        pixels, _ = render_scene(seed=0, index=index, size=_SIDE, split="unlabeled")
        buffer = io.BytesIO()
        Image.fromarray(pixels).save(buffer, "JPEG", quality=90)
        files.write_bytes(files.join(folder, f"{index:06d}.jpg"), buffer.getvalue())


def write_teachers(folder: str) -> list[str]:
    """Two networks as files; returns their specs."""
    specs = []
    for seed in (0, 1):
        network = zoo.build(
            "yolov8_tiny", class_names=CLASS_NAMES, image_size=(_SIDE, _SIDE), seed=seed
        )
        path = files.join(folder, f"{seed}.keras")
        saving.save_network(network, path)
        specs.append(f"keras:{path}?name=t{seed}")
    return specs


def peak_mib(images: str, teachers: list[str], *, workdir: str) -> float:
    """Peak resident memory of a process that labels a folder."""
    command = [sys.executable, "-m", "kd_tf.main", "--stage=pseudo", f"--workdir={workdir}"]
    command += [f"--teacher={text}" for text in teachers]
    command += [f"--unlabeled=images:{images}", "--score_threshold=0.3", "--fusion=wbf"]
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} ended with status {status}.")
    found = manifests.read(files.join(workdir, "pseudo")).counts
    print(f"{images}: {found.written} of {found.seen} images labelled", flush=True)
    return usage.ru_maxrss / 1024


def main() -> None:
    """Prints a Markdown row per size and whether the larger one stays within the bound."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, nargs=2, default=[1000, 20000])
    sizes = parser.parse_args().images
    peaks = []
    with tempfile.TemporaryDirectory() as folder:
        teachers = write_teachers(folder)
        for num in sizes:
            images = files.join(folder, f"images-{num}")
            files.make_folder(images)
            write_jpegs(images, num=num)
            peaks.append(peak_mib(images, teachers, workdir=files.join(folder, f"run-{num}")))
    bound = (peaks[0] + (sizes[1] - sizes[0]) * _KB_PER_IMAGE / 1024) * (1 + _TOLERANCE)
    print("| images | peak MiB |", "|---|---|", sep="\n")
    for num, peak in zip(sizes, peaks, strict=True):
        print(f"| {num} | {peak:.0f} |")
    print(f"bound {bound:.0f} MiB: {'kept' if peaks[1] <= bound else 'EXCEEDED'}")


if __name__ == "__main__":
    main()
