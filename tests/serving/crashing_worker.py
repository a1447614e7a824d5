"""A real worker whose runtime is ended by the system (as by a fault in native code) on rows whose first value is
negative: `python -m tests.serving.crashing_worker`.
"""

import os
import struct
import sys

from mizzen.serving.worker import __main__ as worker
from mizzen.serving.worker.model import Model

run = Model.run


def crash_on_negative(model: Model, tensors):
    for tensor in tensors:
        columns = tensor.shape[1]
        values = struct.unpack(f"<{len(tensor.data) // 4}f", tensor.data)
        if any(value < 0 for value in values[::columns]):
            os.abort()
    return run(model, tensors)


if __name__ == "__main__":
    Model.run = crash_on_negative
    sys.exit(worker.main())
