"""The names of the networks that can be built: a plain table, so that `--help` costs nothing."""

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
