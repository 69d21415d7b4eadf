"""The networks that can be built: a plain table, so that `--help` costs nothing."""

YOLO_NAMES: tuple[str, ...] = (
    "yolov8_tiny",
    "yolov8_xs",
    "yolov8_s",
    "yolov8_m",
    "yolov8_l",
    "yolov8_xl",
    "yolov8_mobilenet_v1",
)
RETINANET_NAMES: tuple[str, ...] = (
    "retinanet_tiny",
    "retinanet_resnet18",
    "retinanet_resnet34",
    "retinanet_resnet50",
    "retinanet_resnet101",
    "retinanet_mobilenet_v1",
    "retinanet_mobilenet_v3_small",
    "retinanet_mobilenet_v3_large",
    "retinanet_efficientnet_lite0",
    "retinanet_efficientnet_lite1",
    "retinanet_efficientnet_lite2",
    "retinanet_efficientnet_lite3",
    "retinanet_efficientnet_lite4",
)
# Students and teachers alike; the smallest of each family first.
NAMES: tuple[str, ...] = YOLO_NAMES + RETINANET_NAMES


def default_learning_rate(network: str) -> float:
    """The peak learning rate of AdamW that suits a network's family.

    RetinaNet's pyramid and heads have no normalisation: at YOLO's rate they are thrown so far
    in the first steps that they find nothing after 300.
    """
    return 0.005 if network in YOLO_NAMES else 0.001
