"""TensorFlow's messages as they are read without TensorFlow, held against TensorFlow's own."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import pipeline.tf_estimator  # noqa: F401  makes tf.estimator exist, so it stands before TensorFlow

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError
from tensorflow.core.framework import summary_pb2, tensor_pb2, tensor_shape_pb2, tensor_slice_pb2, types_pb2
from tensorflow.core.protobuf import tensor_bundle_pb2
from tensorflow.core.util import event_pb2
from tensorflow.python.training import checkpoint_state_pb2

from pipeline.evaluations import read_metric
from pipeline.protos import DTYPES, message_class

OF_TENSORFLOW = {
    "CheckpointState": checkpoint_state_pb2.CheckpointState,
    "BundleHeaderProto": tensor_bundle_pb2.BundleHeaderProto,
    "BundleEntryProto": tensor_bundle_pb2.BundleEntryProto,
    "TensorShapeProto": tensor_shape_pb2.TensorShapeProto,
    "Dim": tensor_shape_pb2.TensorShapeProto.Dim,
    "TensorSliceProto": tensor_slice_pb2.TensorSliceProto,
    "Extent": tensor_slice_pb2.TensorSliceProto.Extent,
    "Event": event_pb2.Event,
    "Summary": summary_pb2.Summary,
    "Value": summary_pb2.Summary.Value,
    "TensorProto": tensor_pb2.TensorProto,
}
NUMBERS = {"float32": 0.1, "float64": 0.1, "float16": 0.1, "bfloat16": 0.1} | dict.fromkeys(
    ("int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64"), 100
)


@pytest.mark.parametrize("name", OF_TENSORFLOW)
def test_fields_have_the_numbers_and_types_of_tensorflow(name: str) -> None:
    theirs = OF_TENSORFLOW[name].DESCRIPTOR.fields_by_name
    ours = message_class(name).DESCRIPTOR.fields
    assert ours
    for field in ours:
        other = theirs[field.name]
        assert field.number == other.number, field.name
        assert (field.label == FieldDescriptor.LABEL_REPEATED) == (other.label == FieldDescriptor.LABEL_REPEATED)
        if other.type == FieldDescriptor.TYPE_ENUM:
            assert field.type == FieldDescriptor.TYPE_INT32
        else:
            assert field.type == other.type, field.name
        if field.message_type:
            assert field.message_type.name == other.message_type.name


def test_dtypes_have_the_names_of_tensorflow() -> None:
    known = {number for number in types_pb2.DataType.values() if 0 < number < 100}
    assert {number: DTYPES[number] for number in known if number in DTYPES} == {
        number: tf.as_dtype(number).name for number in known if number in DTYPES
    }
    named = {types_pb2.DataType.Name(number) for number in known - DTYPES.keys()}
    assert named <= {"DT_FLOAT8_E4M3FNUZ", "DT_FLOAT8_E4M3B11FNUZ", "DT_FLOAT8_E5M2FNUZ", "DT_INT2", "DT_UINT2", "DT_FLOAT4_E2M1FN"}  # fmt: skip


def test_bytes_that_are_no_message_are_told() -> None:
    with pytest.raises(DecodeError):
        message_class("Event").FromString(b"\xff")


def as_values(tensor: tensor_pb2.TensorProto, dtype: str) -> tensor_pb2.TensorProto:
    """The tensor with its number in a field, as other programs write it."""
    other = tensor_pb2.TensorProto(dtype=tensor.dtype, tensor_shape=tensor.tensor_shape)
    value = tf.make_ndarray(tensor).reshape(())
    field = {
        "float32": "float_val", "float64": "double_val", "int64": "int64_val", "uint32": "uint32_val",
        "uint64": "uint64_val", "float16": "half_val", "bfloat16": "half_val",
    }.get(dtype, "int_val")  # fmt: skip
    getattr(other, field).append(value.view(np.uint16).item() if field == "half_val" else value.item())
    return other


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)], ids=str)
@pytest.mark.parametrize("packed", [True, False], ids=["bytes", "values"])
@pytest.mark.parametrize("dtype", NUMBERS)
def test_a_metric_that_is_a_tensor(dtype: str, packed: bool, shape: tuple[int, ...], tmp_path: Path) -> None:
    array = np.full(shape, NUMBERS[dtype]).astype(tf.as_dtype(dtype).as_numpy_dtype)
    tensor = tensor_pb2.TensorProto(
        dtype=tf.as_dtype(dtype).as_datatype_enum,
        tensor_shape=tensor_shape_pb2.TensorShapeProto(
            dim=[tensor_shape_pb2.TensorShapeProto.Dim(size=size) for size in shape]
        ),
        tensor_content=array.tobytes(),
    )
    if not packed:
        tensor = as_values(tensor, dtype)
    assert read_of(tensor, tmp_path) == float(tf.make_ndarray(tensor).reshape(()))


def test_a_metric_that_is_several_numbers_or_text_is_none(tmp_path: Path) -> None:
    values = [tf.make_tensor_proto([1.0, 2.0]), tf.make_tensor_proto("a"), tf.make_tensor_proto(True)]
    write_events(tmp_path, [("other", tensor) for tensor in values] + [("metric", tf.make_tensor_proto(3.0))])
    assert read_metric(str(tmp_path), "metric") == {7: 3.0}
    with pytest.raises(Exception, match="no evaluation has a metric 'other'; there are: metric"):
        read_metric(str(tmp_path), "other")


def read_of(tensor: Any, folder: Path) -> float:
    write_events(folder, [("metric", tensor)])
    return read_metric(str(folder), "metric")[7]


def write_events(folder: Path, tensors: list[tuple[str, Any]]) -> None:
    """An event file of step 7, framed as TFRecord; checksums are not looked at."""
    values = [summary_pb2.Summary.Value(tag=tag, tensor=tensor) for tag, tensor in tensors]
    event = event_pb2.Event(step=7, summary=summary_pb2.Summary(value=values)).SerializeToString()
    (folder / "eval").mkdir()
    framed = struct.pack("<QI", len(event), 0) + event + bytes(4)
    (folder / "eval" / "events.out.tfevents.1").write_bytes(framed)
