"""Stands in for kd_tf.main: notes that it was called and leaves what the stage would leave.

FAIL_AT=RUN/STAGE makes that stage fail, HANG_AT=RUN/STAGE makes it take HANG_S seconds.
"""

import json
import os
import pathlib
import sys
import time

AP = {"teacher": 0.5, "pretrain": 0.3, "finetune": 0.4, "baseline": 0.2}


def main() -> None:
    """Does the stage that the flags name."""
    given = dict(flag.removeprefix("--").partition("=")[::2] for flag in sys.argv[1:])
    workdir, stage = pathlib.Path(given["workdir"]), given["stage"]
    run = workdir.parent.name
    with open(os.environ["STUB_CALLS"], "a") as calls:
        calls.write(f"{run}/{given['seed']}/{stage}\n")
    if os.environ.get("FAIL_AT") == f"{run}/{stage}":
        sys.exit("something went wrong")
    if os.environ.get("HANG_AT") == f"{run}/{stage}":
        time.sleep(float(os.environ["HANG_S"]))
    finish(workdir / stage, {"eval_data": given["eval_data"]})
    if stage == "evaluate":
        _score(workdir, float(given["seed"]))
    else:
        finish(workdir / "labeled", {})


def finish(folder: pathlib.Path, identity: dict) -> None:
    """Leaves the manifest of a finished stage, and its lock."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "in_use.lock").touch()
    content = {"identity": identity, "info": {"commit": "c0ffee", "seconds": 1.0}}
    (folder / "manifest.json").write_text(json.dumps(content))


def _score(workdir: pathlib.Path, seed: float) -> None:
    models = {
        name: {"AP": ap + seed / 10, "AP50": None, "per_class": {"disc": ap}}
        for name, ap in AP.items()
        if (workdir / name).is_dir()
    }
    for name in models:
        (workdir / "evaluate" / name).mkdir(exist_ok=True)
        (workdir / "evaluate" / name / "detections.json").write_text("[]")
    # Scored on the images they were made for, which are others.
    (workdir / "evaluate" / "pseudo_labels").mkdir(exist_ok=True)
    other = [{"image_id": 10**6, "category_id": 1, "bbox": [0, 0, 8, 8], "score": 1.0}]
    (workdir / "evaluate" / "pseudo_labels" / "detections.json").write_text(json.dumps(other))
    labels = {"AP": 0.6, "AP50": None, "per_class": {"disc": 0.6}}
    content = {"models": models, "pseudo_labels": labels}
    (workdir / "evaluate" / "metrics.json").write_text(json.dumps(content))


if __name__ == "__main__":
    main()
