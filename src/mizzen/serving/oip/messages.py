"""The protobuf messages of the Open Inference Protocol's `grpc_service.proto`, with Triton's extensions, and of gRPC's
health service: made at import from the table below, so that there is no generated code to keep.

A line that is not indented begins a message, `NAME: NUMBER FIELD TYPE, …`: `[T]` is repeated, `{T}` a map from strings,
`|T` one of the message's one choice; a capital letter begins a message's name. The classes live in a descriptor pool of
their own, beside any client library that registers the same names in the process.

The numbers that typed contents hold are declared as `bytes` where their packed form on the wire is exactly what tensors
travel as here (little-endian floats; booleans of a byte each): so they are sliced and not made into Python numbers. A
client that sends them unpacked, which no encoder of proto3 does unasked, is refused for want of elements.
"""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

INFERENCE: Final = "inference.GRPCInferenceService"
HEALTH: Final = "grpc.health.v1.Health"

_INFERENCE = """
ServerLiveRequest:
ServerLiveResponse: 1 live bool
ServerReadyRequest:
ServerReadyResponse: 1 ready bool
ModelReadyRequest: 1 name string, 2 version string
ModelReadyResponse: 1 ready bool
ServerMetadataRequest:
ServerMetadataResponse: 1 name string, 2 version string, 3 extensions [string]
ModelMetadataRequest: 1 name string, 2 version string
ModelMetadataResponse: 1 name string, 2 versions [string], 3 platform string, 4 inputs [TensorMetadata],
    5 outputs [TensorMetadata]
TensorMetadata: 1 name string, 2 datatype string, 3 shape [int64]
InferParameter: 1 bool_param |bool, 2 int64_param |int64, 3 string_param |string, 4 double_param |double,
    5 uint64_param |uint64
InferTensorContents: 1 bool_contents [bytes], 2 int_contents [int32], 3 int64_contents [int64],
    4 uint_contents [uint32], 5 uint64_contents [uint64], 6 fp32_contents [bytes], 7 fp64_contents [bytes],
    8 bytes_contents [bytes]
ModelInferRequest: 1 model_name string, 2 model_version string, 3 id string, 4 parameters {InferParameter},
    5 inputs [InferInputTensor], 6 outputs [InferRequestedOutputTensor], 7 raw_input_contents [bytes]
InferInputTensor: 1 name string, 2 datatype string, 3 shape [int64], 4 parameters {InferParameter},
    5 contents InferTensorContents
InferRequestedOutputTensor: 1 name string, 2 parameters {InferParameter}
ModelInferResponse: 1 model_name string, 2 model_version string, 3 id string, 4 parameters {InferParameter},
    5 outputs [InferOutputTensor], 6 raw_output_contents [bytes]
InferOutputTensor: 1 name string, 2 datatype string, 3 shape [int64], 4 parameters {InferParameter},
    5 contents InferTensorContents
ModelStreamInferResponse: 1 error_message string, 2 infer_response ModelInferResponse
ModelConfigRequest: 1 name string, 2 version string
ModelConfigResponse: 1 config ModelConfig
ModelConfig: 1 name string, 2 platform string, 4 max_batch_size int32, 5 input [ModelInput], 6 output [ModelOutput],
    17 backend string, 19 model_transaction_policy ModelTransactionPolicy
ModelInput: 1 name string, 2 data_type int32, 4 dims [int64]
ModelOutput: 1 name string, 2 data_type int32, 3 dims [int64]
ModelTransactionPolicy: 1 decoupled bool
ModelStatisticsRequest: 1 name string, 2 version string
ModelStatisticsResponse: 1 model_stats [ModelStatistics]
ModelStatistics: 1 name string, 2 version string, 3 last_inference uint64, 4 inference_count uint64,
    5 execution_count uint64, 6 inference_stats InferStatistics, 7 batch_stats [InferBatchStatistics]
InferStatistics: 1 success StatisticDuration, 2 fail StatisticDuration, 3 queue StatisticDuration,
    4 compute_input StatisticDuration, 5 compute_infer StatisticDuration, 6 compute_output StatisticDuration,
    7 cache_hit StatisticDuration, 8 cache_miss StatisticDuration
StatisticDuration: 1 count uint64, 2 ns uint64
InferBatchStatistics: 1 batch_size uint64, 2 compute_input StatisticDuration, 3 compute_infer StatisticDuration,
    4 compute_output StatisticDuration
RepositoryIndexRequest: 1 repository_name string, 2 ready bool
RepositoryIndexResponse: 1 models [ModelIndex]
ModelIndex: 1 name string, 2 version string, 3 state string, 4 reason string
TraceSettingRequest: 1 settings {SettingValue}, 2 model_name string
TraceSettingResponse: 1 settings {SettingValue}
SettingValue: 1 value [string]
"""
_HEALTH = """
HealthCheckRequest: 1 service string
HealthCheckResponse: 1 status int32
"""
_Descriptor = descriptor_pb2.FieldDescriptorProto
_OPTIONAL, _REPEATED = _Descriptor.LABEL_OPTIONAL, _Descriptor.LABEL_REPEATED


def _lines(table: str) -> list[str]:
    return table.strip().replace("\n    ", " ").splitlines()


def _file(package: str, table: str) -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name=f"{package}.proto", package=package, syntax="proto3")
    for line in _lines(table):
        name, _, fields = line.partition(":")
        message = file.message_type.add(name=name)
        for field in filter(None, map(str.strip, fields.split(","))):
            number, field_name, type_ = field.split()
            _add_field(message, package, int(number), field_name, type_)
    return file


def _add_field(message: descriptor_pb2.DescriptorProto, package: str, number: int, name: str, type_: str) -> None:
    field = message.field.add(name=name, number=number, label=_REPEATED if type_[0] in "[{" else _OPTIONAL)
    element = type_.strip("[]{}|")
    if type_[0] == "|":
        if not message.oneof_decl:
            message.oneof_decl.add(name="choice")
        field.oneof_index = 0
    if type_[0] == "{":  # a map is a repeated message of a key and a value
        entry = message.nested_type.add(name=f"{name.title().replace('_', '')}Entry")
        entry.options.map_entry = True
        _add_field(entry, package, 1, "key", "string")
        _add_field(entry, package, 2, "value", element)
        field.type, field.type_name = _Descriptor.TYPE_MESSAGE, f".{package}.{message.name}.{entry.name}"
    elif element[0].isupper():
        field.type, field.type_name = _Descriptor.TYPE_MESSAGE, f".{package}.{element}"
    else:
        field.type = _Descriptor.Type.Value(f"TYPE_{element.upper()}")


_pool = descriptor_pool.DescriptorPool()
_CLASSES: dict[str, Any] = {}
for _package, _table in (("inference", _INFERENCE), ("grpc.health.v1", _HEALTH)):
    _pool.Add(_file(_package, _table))
    for _name in [line.partition(":")[0] for line in _lines(_table)]:
        _CLASSES[_name] = message_factory.GetMessageClass(_pool.FindMessageTypeByName(f"{_package}.{_name}"))


def message(name: str) -> Any:
    """The class of that message: `message("ModelInferRequest").FromString(data)`."""
    return _CLASSES[name]
