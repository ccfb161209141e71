"""`tf.train.Example` as protobuf classes, declared here so that no TensorFlow is needed.

The message types are public format: tensorflow/core/example/{example,feature}.proto.
"""

from __future__ import annotations

from typing import Any

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_REPEATED = descriptor_pb2.FieldDescriptorProto.LABEL_REPEATED
_OPTIONAL = descriptor_pb2.FieldDescriptorProto.LABEL_OPTIONAL
_TYPE = descriptor_pb2.FieldDescriptorProto


def _declare() -> Any:
    file = descriptor_pb2.FileDescriptorProto(
        name="robo4d_example.proto", package="robo4d_example", syntax="proto3"
    )
    for name, kind in (
        ("BytesList", _TYPE.TYPE_BYTES),
        ("FloatList", _TYPE.TYPE_FLOAT),
        ("Int64List", _TYPE.TYPE_INT64),
    ):
        message = file.message_type.add(name=name)
        message.field.add(name="value", number=1, label=_REPEATED, type=kind)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")), 1
    ):
        feature.field.add(
            name=name,
            number=number,
            label=_OPTIONAL,
            type=_TYPE.TYPE_MESSAGE,
            type_name=f".robo4d_example.{kind}",
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, label=_OPTIONAL, type=_TYPE.TYPE_STRING)
    entry.field.add(
        name="value",
        number=2,
        label=_OPTIONAL,
        type=_TYPE.TYPE_MESSAGE,
        type_name=".robo4d_example.Feature",
    )
    features.field.add(
        name="feature",
        number=1,
        label=_REPEATED,
        type=_TYPE.TYPE_MESSAGE,
        type_name=".robo4d_example.Features.FeatureEntry",
    )
    example = file.message_type.add(name="Example")
    example.field.add(
        name="features",
        number=1,
        label=_OPTIONAL,
        type=_TYPE.TYPE_MESSAGE,
        type_name=".robo4d_example.Features",
    )
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("robo4d_example.Example"))


Example = _declare()
