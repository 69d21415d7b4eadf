"""Backbones from constructor tables: KerasCV's own constructors fetch even their config.

The tables are those of KerasCV's presets (Apache-2.0), which carried them inline up to
its version 0.7.1, https://github.com/keras-team/keras-cv/tree/v0.7.1.
"""

import keras
import keras_cv

# Channels of the four stages and blocks in each.
_YOLO = {
    "yolov8_tiny": ([16, 32, 64, 128], [1, 1, 1, 1]),
    "yolov8_xs": ([32, 64, 128, 256], [1, 2, 2, 1]),
    "yolov8_s": ([64, 128, 256, 512], [1, 2, 2, 1]),
    "yolov8_m": ([96, 192, 384, 576], [2, 4, 4, 2]),
    "yolov8_l": ([128, 256, 512, 512], [3, 6, 6, 3]),
    "yolov8_xl": ([160, 320, 640, 640], [3, 6, 6, 3]),
}
# Blocks in each stage, and their type.
_RESNET = {
    "resnet18": ([2, 2, 2, 2], "basic_block"),
    "resnet34": ([3, 4, 6, 3], "basic_block"),
    "resnet50": ([3, 4, 6, 3], "block"),
    "resnet101": ([3, 4, 23, 3], "block"),
}
_MOBILENET_V3 = {
    "mobilenet_v3_small": {
        "stackwise_expansion": [1, 72 / 16, 88 / 24, 4, 6, 6, 3, 3, 6, 6, 6],
        "stackwise_filters": [16, 24, 24, 40, 40, 40, 48, 48, 96, 96, 96],
        "stackwise_kernel_size": [3, 3, 3, 5, 5, 5, 5, 5, 5, 5, 5],
        "stackwise_stride": [2, 2, 1, 2, 1, 1, 1, 1, 2, 1, 1],
        "stackwise_se_ratio": [0.25, None, None] + [0.25] * 8,
        "stackwise_activation": ["relu"] * 3 + ["hard_swish"] * 8,
    },
    "mobilenet_v3_large": {
        "stackwise_expansion": [1, 4, 3, 3, 3, 3, 6, 2.5, 2.3, 2.3, 6, 6, 6, 6, 6],
        "stackwise_filters": [16, 24, 24, 40, 40, 40] + [80] * 4 + [112] * 2 + [160] * 3,
        "stackwise_kernel_size": [3, 3, 3, 5, 5, 5] + [3] * 6 + [5] * 3,
        "stackwise_stride": [1, 2, 1, 2, 1, 1, 2, 1, 1, 1, 1, 1, 2, 1, 1],
        "stackwise_se_ratio": [None] * 3 + [0.25] * 3 + [None] * 4 + [0.25] * 5,
        "stackwise_activation": ["relu"] * 6 + ["hard_swish"] * 9,
    },
}
# Width and depth coefficient, dropout rate.
_EFFICIENTNET_LITE = {
    "efficientnet_lite0": (1.0, 1.0, 0.2),
    "efficientnet_lite1": (1.0, 1.1, 0.2),
    "efficientnet_lite2": (1.1, 1.2, 0.3),
    "efficientnet_lite3": (1.2, 1.4, 0.3),
    "efficientnet_lite4": (1.4, 1.8, 0.3),
}
# The thirteenth block of keras.applications' MobileNet, a second one at stride 32, is left
# out: the ImageNet weights at hand lack its pointwise kernel.
_MOBILENET_V1_LEVELS = {"P3": "conv_pw_5_relu", "P4": "conv_pw_11_relu", "P5": "conv_pw_12_relu"}


def build_backbone(name: str, *, image_size: tuple[int, int]) -> keras.Model:
    """A backbone with random weights.

    Args:
        name: A key of the tables above, or "mobilenet_v1".
        image_size: (height, width) in pixels.

    Returns:
        A model of images [B, H, W, 3] float32 RGB 0..255 (it rescales by itself);
        its `pyramid_level_inputs` names the layers "P3", "P4", "P5" (strides 8, 16, 32).
    """
    shape = (*image_size, 3)
    if name == "mobilenet_v1":
        return _mobilenet_v1(shape)
    if name in _YOLO:
        channels, depth = _YOLO[name]
        return keras_cv.models.YOLOV8Backbone(
            stackwise_channels=channels,
            stackwise_depth=depth,
            include_rescaling=True,
            input_shape=shape,
        )
    if name in _RESNET:
        blocks, block_type = _RESNET[name]
        return keras_cv.models.ResNetBackbone(
            stackwise_filters=[64, 128, 256, 512],
            stackwise_blocks=blocks,
            stackwise_strides=[1, 2, 2, 2],
            block_type=block_type,
            include_rescaling=True,
            input_shape=shape,
        )
    if name in _MOBILENET_V3:
        return keras_cv.models.MobileNetV3Backbone(
            **_MOBILENET_V3[name], include_rescaling=True, input_shape=shape
        )
    return _efficientnet_lite(name, shape)


def _efficientnet_lite(name: str, shape: tuple[int, int, int]) -> keras.Model:
    width, depth, dropout = _EFFICIENTNET_LITE[name]
    return keras_cv.models.EfficientNetLiteBackbone(
        width_coefficient=width,
        depth_coefficient=depth,
        dropout_rate=dropout,
        drop_connect_rate=0.2,
        depth_divisor=8,
        activation="relu6",
        stackwise_kernel_sizes=[3, 3, 5, 3, 5, 5, 3],
        stackwise_num_repeats=[1, 2, 2, 3, 3, 4, 1],
        stackwise_input_filters=[32, 16, 24, 40, 80, 112, 192],
        stackwise_output_filters=[16, 24, 40, 80, 112, 192, 320],
        stackwise_expansion_ratios=[1, 6, 6, 6, 6, 6, 6],
        stackwise_strides=[1, 2, 2, 2, 1, 2, 1],
        include_rescaling=True,
        input_shape=shape,
    )


def _mobilenet_v1(shape: tuple[int, int, int]) -> keras.Model:
    images = keras.layers.Input(shape)
    rescaled = keras.layers.Rescaling(1 / 127.5, offset=-1.0)(images)
    backbone = keras.applications.MobileNet(
        input_tensor=rescaled, include_top=False, weights=None, name="mobilenet_v1"
    )
    backbone.pyramid_level_inputs = _MOBILENET_V1_LEVELS
    return backbone
