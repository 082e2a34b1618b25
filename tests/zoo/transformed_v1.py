"""The trainer of `transformed`, in a process where TensorFlow 2 behaviour is switched off."""

import tensorflow.compat.v1 as tf

tf.disable_v2_behavior()

from zoo.transformed import build_estimator  # noqa: E402, F401
