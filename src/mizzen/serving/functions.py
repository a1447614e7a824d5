"""What a gateway and a worker of features of requests say to each other.

The worker is asked as any worker is: by the same frames, with the same queue before it. Its one input and its one
output are Arrow IPC streams, each a single BYTES element, so that types and nulls are those that the function sees in a
training set; so a request is a batch of its own, and its rows are computed together. Which features are wanted is in
the schema's metadata.
"""

from mizzen.serving.tensors import Signature, TensorSpec

SIGNATURE = Signature((TensorSpec("rows", "BYTES", (1,)),), (TensorSpec("features", "BYTES", (1,)),))
WANTED = b"wanted"
