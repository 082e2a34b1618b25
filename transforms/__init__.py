"""The preprocessing transform: one artifact that training and scoring share.

transform = transforms.load("gs://models/taxi/transform")
dataset.map(lambda features, label: (transform(features), label))
"""

from transforms.attach import Attached, Output
from transforms.function import FunctionTransform, from_function
from transforms.load import Transform, load

__all__ = ["Attached", "FunctionTransform", "Output", "Transform", "from_function", "load"]
