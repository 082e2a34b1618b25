"""Which names in a checkpoint are an optimizer's own: its slots, its averages of variables, its settings and counters.

Collected from checkpoints of every optimizer of `tf.compat.v1.train` and of both generations of Keras optimizers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

Shape = tuple[int, ...]

# tf.compat.v1.train names a slot by its optimizer: dense/kernel/Adam, dense/kernel/Adam_1; legacy Keras by its use:
# training/Adam/dense/kernel/m; Keras the other way round: Adam/m/dense/kernel
_SLOTS = frozenset({
    "Adadelta", "Adagrad", "AdagradDA", "Adam", "ExponentialMovingAverage", "Ftrl", "Momentum", "ProximalAdagrad", "RMSProp",
    "accum_grad", "accum_var", "accumulated_delta_var", "accumulated_grad", "accumulator", "average", "average_gradient",
    "biased", "c", "linear", "local_step", "m", "mg", "momentum", "r", "rms", "u", "v", "velocity", "vhat",
})  # fmt: skip
_SCALARS = frozenset({
    "beta", "beta1_power", "beta2_power", "beta_1", "beta_2", "current_loss_scale", "decay", "epsilon", "good_steps", "iter",
    "iteration", "iterations", "l1_regularization_strength", "l2_regularization_strength", "learning_rate",
    "learning_rate_power", "loss_scale", "lr", "momentum", "momentum_cache", "rho", "save_counter", "weight_decay",
})  # fmt: skip
_STATE = re.compile(
    r"training(_\d+)?/\w+/Variable(_\d+)?"  # slots of Keras optimizers of TensorFlow 1.12 and older
    r"|(.*/)?ShardedMutableHashTable-\d+-of-\d+-(keys|values)"  # duals of LinearSDCA
)
_PARTITION = re.compile(r"(part|t)_\d+")  # kernel/part_0/Adagrad, kernel/t_0/Adagrad
_VALUE = "/.ATTRIBUTES/VARIABLE_VALUE"
_OBJECT_SLOT = "/.OPTIMIZER_SLOT/"
_SHADOW = "_unshrunk"
"""LinearSDCA keeps `weights_unshrunk` beside `weights`."""


def is_optimizer_state(name: str, shape: Shape) -> bool:
    """Whether a checkpoint name is an optimizer's without being any variable's: beta1_power, Adam/learning_rate."""
    leaf = name.removesuffix(_VALUE).rpartition("/")[2]
    return (shape == () and (leaf in _SCALARS or _unnumbered(leaf) in _SCALARS)) or bool(_STATE.fullmatch(name))


def is_slot(name: str, shape: Shape, owners: Mapping[str, Shape]) -> bool:
    """Whether a checkpoint name is a slot or an average of one of the variables `owners` (name -> full shape).

    The owner's name stands in it as whole path components. Under the owner itself any one component counts, since
    optimizers and averages can be given names; with a scope in front a slot's usual name is asked for. The shape is
    the owner's, or a part of it (Adafactor keeps one value a row and one a column; Keras, one slot a partition).
    """
    if _OBJECT_SLOT in name:
        owner = name.partition(_OBJECT_SLOT)[0] + _VALUE
        return owner in owners and _factors(shape, owners[owner])
    if name.endswith(_SHADOW):
        return owners.get(name.removesuffix(_SHADOW)) == shape
    parts = name.split("/")
    for start in range(len(parts)):
        for end in range(start + 1, len(parts) + 1):
            owned = _owned("/".join(parts[start:end]), owners)
            if owned is None:
                continue
            before, after = parts[:start], parts[end:]
            partition = bool(after) and bool(_PARTITION.fullmatch(after[0]))
            fits = _factors(shape, owned) or (partition and _lies_within(shape, owned))
            if fits and _names_slot(before, after[1:] if partition else after):
                return True
    return False


def _owned(name: str, owners: Mapping[str, Shape]) -> Shape | None:
    """The owner's shape. Adafactor of Keras has a second `r/dense/bias_1` beside `r/dense/bias`."""
    return owners.get(name, owners.get(_unnumbered(name)))


def _names_slot(before: list[str], after: list[str]) -> bool:
    if after:
        return (not before and len(after) == 1) or _unnumbered(after[-1]) in _SLOTS
    return len(before) > 1 and before[-1] in _SLOTS


def _factors(shape: Shape, owner: Shape) -> bool:
    return set(shape) <= {1, *owner}


def _lies_within(shape: Shape, owner: Shape) -> bool:
    return len(shape) == len(owner) and all(size <= whole for size, whole in zip(shape, owner, strict=True))


def _unnumbered(name: str) -> str:
    return re.sub(r"_\d+$", "", name)
