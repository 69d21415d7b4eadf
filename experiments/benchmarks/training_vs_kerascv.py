"""Question: does our training beat KerasCV's own `fit` on the same network and images?

    python -m experiments.benchmarks.training_vs_kerascv --out=runs/vs_yolo
    python -m experiments.benchmarks.training_vs_kerascv --family=retinanet --out=runs/vs_retinanet

Expected time on 2 quiet cores: yolo 30 min, retinanet 70 min; the script measures the
speed first and prints an estimate. Every finished cell is a file of --out, so a run that was
killed goes on. Expected: images/s at least 1.15 times KerasCV's, AP after 300 steps at least 1.3
times, and on average no less than KerasCV's after 900 steps.

Both sides get the same first weights, the same batches of the embedded scenes in the same order
(mirrored at random, no other augmentation) and the same decoding. Each side keeps its own
losses, targets, step, optimizer and schedule: KerasCV's as its guide says (Adam at a constant
rate, clipped at 10), ours as the defaults of kd_tf (AdamW; warm-up, peak and a cosine at the end;
averaged weights).
The learning rate of each side is the best of --lrs on seed 0 and on images (split val) that are
not those of the table (split eval). The interval is Student's t on the logarithm of the seeds'
ratios, 95 %, two-sided.
"""

import argparse
import math
import os
import statistics

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

from experiments import student_t
from experiments.benchmarks.training_sides import Bench
from kd_tf import documents, files

_DEFAULTS = {
    # network, steps of ours, steps of KerasCV's, learning rates, seeds
    "yolo": ("yolov8_tiny", 300, 900, [3e-4, 1e-3, 3e-3], 3),
    "retinanet": ("retinanet_mobilenet_v3_small", 600, 600, [3e-4, 1e-3, 3e-3], 1),
}
# Seconds of a cell that no step explains: building, tracing and scoring, on two cores.
_SECONDS_PER_CELL = 60.0


def main() -> None:
    """Measures what --out lacks, then prints the table and writes result.json."""
    arguments = _parse()
    setting = {name: value for name, value in vars(arguments).items() if name not in _NO_SETTING}
    _keep_setting(arguments.out, setting)
    bench = Bench(arguments)
    speed = bench.cell("speed", bench.measure_speed)
    _print_estimate(arguments, speed)
    first = {
        side: [bench.train(side, rate, seed=0) for rate in arguments.lrs]
        for side in ("stock", "ours")
    }
    rates = best_rates(first, steps=arguments.steps, stock_steps=arguments.stock_steps)
    runs = [
        {what: bench.train(what.split("_")[0], rate, seed=seed) for what, rate in rates.items()}
        for seed in range(arguments.seeds)
    ]
    rows = [compare(run, steps=arguments.steps, stock_steps=arguments.stock_steps) for run in runs]
    result = {"setting": setting, "rates": rates, "speed": speeds(speed), "seeds": rows}
    result["ap_ratio"] = interval([row["ratio"] for row in rows])
    files.write_json(files.join(arguments.out, "result.json"), result)
    print(to_markdown(result))


_NO_SETTING = ("out", "lrs", "seeds")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--family", choices=sorted(_DEFAULTS), default="yolo")
    add("--out", required=True, help="Folder of the cells and of result.json.")
    add("--network", default="", help="Of the family; empty takes its default.")
    add("--image_size", type=int, default=160)
    add("--batch_size", type=int, default=8)
    add("--steps", type=int, default=0, help="Of ours; 0 takes the family's default.")
    add("--stock_steps", type=int, default=0, help="Of KerasCV's; a multiple of --steps.")
    add("--eval_every", type=int, default=50)
    add("--lrs", type=float, nargs="+", default=[])
    add("--seeds", type=int, default=0)
    add("--small_anchors", action="store_true", help="KerasCV's RetinaNet gets anchors from 8 px.")
    add("--rounds", type=int, default=5, help="Of the speed measurement, each side in turn.")
    add("--round_steps", type=int, default=40)
    add("--num_train", type=int, default=2000)
    add("--num_test", type=int, default=200)
    add("--num_tune", type=int, default=100)
    arguments = parser.parse_args()
    names = ("network", "steps", "stock_steps", "lrs", "seeds")
    for name, value in zip(names, _DEFAULTS[arguments.family], strict=True):
        setattr(arguments, name, getattr(arguments, name) or value)
    if arguments.steps % arguments.eval_every or arguments.stock_steps % arguments.steps:
        parser.error("--steps must be a multiple of --eval_every, --stock_steps one of --steps.")
    return arguments


def _keep_setting(folder: str, setting: dict[str, object]) -> None:
    """Cells of other settings must not be mixed in."""
    path = files.join(folder, "setting.json")
    if files.exists(path) and documents.read_json(path) != setting:
        raise SystemExit(f"{path} names other settings; take another --out.")
    files.make_folder(folder)
    files.write_json(path, setting)


def _print_estimate(arguments: argparse.Namespace, speed: dict) -> None:
    per_step = {
        side: arguments.batch_size / found["images_per_s"]
        for side, found in speeds(speed).items()
        if side != "ratio"
    }
    runs = len(arguments.lrs) + arguments.seeds - 1
    seconds = arguments.stock_steps * per_step["stock"] + arguments.steps * per_step["ours"]
    minutes = runs * (seconds + 2 * _SECONDS_PER_CELL) / 60
    print(
        f"{per_step['stock']:.3f} s a step of KerasCV's, {per_step['ours']:.3f} s of ours: all "
        f"cells take about {minutes:.0f} min; more where KerasCV's best rates after "
        f"{arguments.steps} and {arguments.stock_steps} steps differ.",
        flush=True,
    )


def best_rates(first: dict[str, list[dict]], *, steps: int, stock_steps: int) -> dict[str, float]:
    """The learning rates that win on the tuning images, KerasCV's for both lengths of its run."""

    def best(side: str, step: int) -> float:
        return max(first[side], key=lambda run: at(run, step)["tune"]["AP"])["rate"]

    return {
        "ours": best("ours", steps),
        "stock_short": best("stock", steps),
        "stock_long": best("stock", stock_steps),
    }


def at(run: dict, step: int) -> dict:
    """The scores of a run after so many steps."""
    return next(point for point in run["curve"] if point["step"] == step)


def compare(run: dict[str, dict], *, steps: int, stock_steps: int) -> dict:
    """One seed's numbers, all on the test images."""
    ours, short = (at(run[side], steps)["test"] for side in ("ours", "stock_short"))
    long = at(run["stock_long"], stock_steps)["test"]
    return {
        "seed": run["ours"]["seed"],
        "ours": ours,
        "stock": short,
        "stock_long": long,
        "ratio": ours["AP"] / max(short["AP"], 1e-6),
        "difference_to_stock_long": ours["AP"] - long["AP"],
    }


def speeds(speed: dict) -> dict:
    """Medians over the rounds, and the median of the rounds' ratios."""
    found = {
        side: {
            name: statistics.median(one[name] for one in speed[side])
            for name in ("images_per_s", "core_ms_per_image")
        }
        for side in ("stock", "ours")
    }
    pairs = list(zip(speed["ours"], speed["stock"], strict=True))
    found["ratio"] = {
        "images_per_s": [ours["images_per_s"] / stock["images_per_s"] for ours, stock in pairs],
        "core_ms_per_image": [
            stock["core_ms_per_image"] / ours["core_ms_per_image"] for ours, stock in pairs
        ],
    }
    return found


def interval(ratios: list[float]) -> dict[str, float | None]:
    """Geometric mean and 95 % interval of ratios; no interval for a single one."""
    logs = [math.log(max(ratio, 1e-6)) for ratio in ratios]
    mean = statistics.fmean(logs)
    if len(logs) == 1:
        return {"mean": math.exp(mean), "low": None, "high": None}
    half = student_t.half_width(logs)
    return {"mean": math.exp(mean), "low": math.exp(mean - half), "high": math.exp(mean + half)}


def to_markdown(result: dict) -> str:
    """The tables of RESULTS.md."""
    setting, speed, rates = result["setting"], result["speed"], result["rates"]
    lines = ["| side | images/s | core-ms/image |", "|---|---|---|"]
    for side in ("stock", "ours"):
        one = speed[side]
        lines.append(f"| {side} | {one['images_per_s']:.1f} | {one['core_ms_per_image']:.1f} |")
    medians = {name: statistics.median(values) for name, values in speed["ratio"].items()}
    lines += [
        f"| ratio | {medians['images_per_s']:.2f} | {medians['core_ms_per_image']:.2f} |", "",
        f"Learning rates: {rates}.", "",
        f"| seed | ours, AP (AP50, APs) after {setting['steps']} | KerasCV's | ratio "
        f"| KerasCV's after {setting['stock_steps']} | difference |",
        "|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in result["seeds"]:
        texts = [_scores(row[name]) for name in ("ours", "stock")]
        lines.append(
            f"| {row['seed']} | {texts[0]} | {texts[1]} | {row['ratio']:.2f} "
            f"| {_scores(row['stock_long'])} | {row['difference_to_stock_long']:+.3f} |"
        )
    ratio = result["ap_ratio"]
    text = "one seed" if ratio["low"] is None else f"{ratio['low']:.2f} to {ratio['high']:.2f}"
    return "\n".join([*lines, "", f"AP ratio: {ratio['mean']:.2f} (95 %: {text})."])


def _scores(found: dict[str, float]) -> str:
    return f"{found['AP']:.3f} ({found['AP50']:.3f}, {found['APs']:.3f})"


if __name__ == "__main__":
    main()
