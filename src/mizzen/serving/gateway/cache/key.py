"""What makes two requests the same.

The key holds everything an answer may depend on: who asks, the digest of the model's bytes, the outputs asked for and
the decoded inputs. Inputs are taken after decoding, in the signature's order, as raw little-endian elements; so JSON
(flat or nested), binary tensors and gRPC of the same values are the same request. What only says how the answer is to
be sent or how long it may take (`id`, `timeout`, `priority`, binary or not) is not in it.

Keys are self-delimiting: the header says how long each part is, so no two different requests make the same bytes.
"""

import hashlib
from collections.abc import Callable

import msgspec

from mizzen.serving.oip import InferenceRequest
from mizzen.serving.tensors import Signature

DIGEST_BYTES = 32
DigestFunction = Callable[[bytes], bytes]
_encode = msgspec.msgpack.Encoder().encode


def digest_of_key(key: bytes) -> bytes:
    """256 bits of BLAKE2b."""
    return hashlib.blake2b(key, digest_size=DIGEST_BYTES).digest()


def place_of(namespace: str, endpoint: str, model_digest: str, digest: bytes) -> str:
    """Where an endpoint's entry with that digest is, in tiers that several endpoints share."""
    return f"mizzen:answers:{namespace}/{endpoint}:{model_digest.removeprefix('sha256:')[:16]}:{digest.hex()}"


def wanted_outputs(request: InferenceRequest, signature: Signature) -> tuple[str, ...]:
    """The outputs that an answer has to hold, in the signature's order: asking for all by name is asking for all."""
    if request.outputs is None:
        return tuple(spec.name for spec in signature.outputs)
    names = {wanted.name for wanted in request.outputs}
    return tuple(spec.name for spec in signature.outputs if spec.name in names)


def key_of(
    tenant: str, model_digest: str, outputs: tuple[str, ...], request: InferenceRequest, variant: str = ""
) -> bytes:
    """The key of a request by that tenant to the model with that digest.

    `variant` is what else an answer depends on: the unit, where a graph sends units different ways.
    """
    inputs = request.inputs
    head = _encode(
        [
            tenant,
            variant,
            model_digest,
            outputs,
            [(tensor.name, tensor.datatype, tensor.shape, len(tensor.data)) for tensor in inputs],
        ]
    )
    return b"".join([len(head).to_bytes(4, "little"), head, *[tensor.data for tensor in inputs]])
