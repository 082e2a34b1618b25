"""Messages in TensorFlow's files, read without TensorFlow, which takes seconds to import.

Only the fields that are looked at are named here, by the numbers that they have in
https://github.com/tensorflow/tensorflow/tree/master/tensorflow/core. All are optional, so `HasField` tells which were
written; an enum is read as its number, and a field of no name here is skipped.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any

_MESSAGES = {
    "CheckpointState": "string model_checkpoint_path = 1, string* all_model_checkpoint_paths = 2, "
    "double* all_model_checkpoint_timestamps = 3, double last_preserved_timestamp = 4",
    "BundleHeaderProto": "int32 num_shards = 1",
    "BundleEntryProto": "int32 dtype = 1, TensorShapeProto shape = 2, int32 shard_id = 3, int64 offset = 4, "
    "int64 size = 5, fixed32 crc32c = 6, TensorSliceProto* slices = 7",
    "TensorShapeProto": "Dim* dim = 2",
    "Dim": "int64 size = 1",
    "TensorSliceProto": "Extent* extent = 1",
    "Extent": "int64 start = 1, int64 length = 2",
    "Event": "int64 step = 2, Summary summary = 5",
    "Summary": "Value* value = 1",
    "Value": "string tag = 1, float simple_value = 2, TensorProto tensor = 8",
    "TensorProto": "int32 dtype = 1, TensorShapeProto tensor_shape = 2, bytes tensor_content = 4, float* float_val = 5, "
    "double* double_val = 6, int32* int_val = 7, int64* int64_val = 10, int32* half_val = 13, uint32* uint32_val = 16, "
    "uint64* uint64_val = 17",
}
_FIELD = re.compile(r"(\w+)(\*?) (\w+) = (\d+)")

DTYPES = {
    1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64",
    10: "bool", 11: "qint8", 12: "quint8", 13: "qint32", 14: "bfloat16", 15: "qint16", 16: "quint16", 17: "uint16",
    18: "complex128", 19: "float16", 20: "resource", 21: "variant", 22: "uint32", 23: "uint64", 24: "float8_e5m2",
    25: "float8_e4m3fn", 29: "int4", 30: "uint4",
}  # fmt: skip
"""Number of a `DataType` -> name of the `tf.DType`."""


@cache
def message_class(name: str) -> Any:
    """The class of a message, as protoc would have made it of these fields; `FromString` raises DecodeError."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    file = descriptor_pb2.FileDescriptorProto(name="tensorflow_files.proto")
    scalars = descriptor_pb2.FieldDescriptorProto
    for message, fields in _MESSAGES.items():
        added = file.message_type.add(name=message)
        for kind, repeated, field, number in _FIELD.findall(fields):
            label = scalars.LABEL_REPEATED if repeated else scalars.LABEL_OPTIONAL
            if kind in _MESSAGES:
                added.field.add(name=field, number=int(number), label=label, type_name=kind)
            else:
                added.field.add(name=field, number=int(number), label=label, type=f"TYPE_{kind.upper()}")
    pool = descriptor_pool.DescriptorPool()  # of our own: TensorFlow puts its own messages into the default one
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(name))
