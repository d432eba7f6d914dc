"""tf.train.Example without TensorFlow: named lists of byte strings, floats or integers, as protobuf writes them.

The messages (tensorflow/core/example/{example,feature}.proto) are described to protobuf at run time, so that no generated code is needed.
"""

from functools import cache
from typing import Any, Final

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, Message
from numpy.typing import NDArray

from handsight.sensors.errors import HandsightError

Values = list[bytes] | NDArray[np.float32] | NDArray[np.int64]

_PACKAGE: Final = "handsight.tf_example"  # of our own: TensorFlow, where it is installed, registers its messages as `tensorflow`
_LISTS: Final = {"BytesList": "TYPE_BYTES", "FloatList": "TYPE_FLOAT", "Int64List": "TYPE_INT64"}


def parse_example(data: bytes) -> dict[str, Values]:
    """One serialized Example -> the values of every feature; integers as int64, floats as float32, as they are stored.

    Raises:
        HandsightError: not an Example.
    """
    example: Any = _example_class()()
    try:
        example.ParseFromString(data)
    except DecodeError as error:
        raise HandsightError(f"expected a tf.train.Example, got a record that protobuf cannot read ({error})") from error
    return {name: _values(feature) for name, feature in example.features.feature.items()}


def _values(feature: Any) -> Values:
    kind = feature.WhichOneof("kind")
    if kind == "bytes_list":
        return list(feature.bytes_list.value)
    if kind == "float_list":
        return np.array(feature.float_list.value, dtype=np.float32)
    return np.array(feature.int64_list.value, dtype=np.int64)  # also of a feature that holds nothing


@cache
def _example_class() -> type[Message]:
    """The class of message Example { Features features = 1; }, where Features { map<string, Feature> feature = 1; }."""
    file = descriptor_pb2.FileDescriptorProto(name="handsight/tf_example.proto", package=_PACKAGE, syntax="proto3")
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(_LISTS.items(), start=1):
        _add_field(file.message_type.add(name=name), "value", 1, kind, repeated=True)
        _add_field(feature, name.replace("List", "_list").lower(), number, name).oneof_index = 0
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")  # what protobuf makes of a map
    entry.options.map_entry = True
    _add_field(entry, "key", 1, "TYPE_STRING")
    _add_field(entry, "value", 2, "Feature")
    _add_field(features, "feature", 1, "Features.FeatureEntry", repeated=True)
    _add_field(file.message_type.add(name="Example"), "features", 1, "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.Example"))


def _add_field(
    message: descriptor_pb2.DescriptorProto, name: str, number: int, kind: str, *, repeated: bool = False
) -> descriptor_pb2.FieldDescriptorProto:
    """kind: a scalar as `TYPE_...`, or the name of a message above."""
    field = message.field.add(name=name, number=number)
    field.label = field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL
    if kind.startswith("TYPE_"):
        field.type = field.Type.Value(kind)
    else:
        field.type, field.type_name = field.TYPE_MESSAGE, f".{_PACKAGE}.{kind}"
    return field
