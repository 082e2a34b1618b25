"""The preprocessing transform: one artifact that training and scoring share.

transform = transforms.load("gs://models/taxi/transform")
dataset.map(lambda features, label: (transform(features), label))
"""

from transforms.attach import Attached, Output
from transforms.fit import fit
from transforms.function import FunctionTransform, from_function
from transforms.load import Transform, load
from transforms.record import record

__all__ = ["Attached", "FunctionTransform", "Output", "Transform", "fit", "from_function", "load", "record"]
