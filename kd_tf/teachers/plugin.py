"""`python:module:factory?key=value`: a teacher that somebody wrote, with two methods.

The factory is called with the spec's options as keyword strings (without `name`) and
returns an object with

    needs() -> kd_tf.geometry.detections.Needs
        class names, input height and width, how an image gets that size, RGB or BGR;
    detect(images: uint8 [B, height, width, 3]) -> list of B Detections
        boxes in pixels of the images as given, scores in [0, 1], classes as indices
        into `Needs.class_names`.

experiments/yolox_teacher is a worked example.
"""

import importlib
import os
import sys

from kd_tf.errors import UserError, where_raised
from kd_tf.geometry.detections import Detector, Needs
from kd_tf.specs import Spec


def load_plugin(spec: Spec) -> Detector:
    """Imports the module (the current folder counts too) and calls the factory.

    Raises:
        UserError: No such module or factory, the factory fails, or what it returns lacks
            one of the two methods.
    """
    module_name, colon, factory_name = spec.location.partition(":")
    if not colon or not factory_name:
        raise UserError(f"{spec.text!r} needs the form python:module:factory?key=value.")
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        factory = getattr(importlib.import_module(module_name), factory_name)
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{spec.text!r}: cannot import {factory_name!r} from {module_name!r}: "
            f"{type(error).__name__}: {error}{where_raised(error)}. Run where the module can be "
            "imported, or set PYTHONPATH."
        ) from error
    options = {key: value for key, value in spec.options.items() if key != "name"}
    try:
        teacher = factory(**options)
    except UserError:
        raise
    except (Exception, SystemExit) as error:
        raise UserError(
            f"{spec.text!r}: {factory_name}({options}) failed: {type(error).__name__}: "
            f"{error}{where_raised(error)}"
        ) from error
    for method in ("needs", "detect"):
        if not callable(getattr(teacher, method, None)):
            raise UserError(
                f"{spec.text!r}: the factory returned a {type(teacher).__name__} without a method "
                f"{method!r}. A teacher has needs() and detect(images)."
            )
    try:
        needs = teacher.needs()
    except Exception as error:
        raise UserError(
            f"{spec.text!r}: needs() failed: {type(error).__name__}: {error}{where_raised(error)}"
        ) from error
    if not isinstance(needs, Needs):
        raise UserError(
            f"{spec.text!r}: needs() returned a {type(needs).__name__}, expected "
            "kd_tf.geometry.detections.Needs."
        )
    return teacher
