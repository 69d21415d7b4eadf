"""Makes a small object detector from one or several big ones, by pseudo labels.

Reimplements "Revisiting Knowledge Distillation for Object Detection"
(A. Banitalebi-Dehkordi, 2021, arXiv 2105.10633) in Keras and TensorFlow.
"""

__version__ = "0.1.0"
