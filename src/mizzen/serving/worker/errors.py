"""What ends a worker, and what ends a batch.

TaskError     the worker cannot do what it was told: exit code 2, starting it again will not help
BatchError    the model refused these rows: answered with ERROR, and the worker goes on
"""


class TaskError(Exception):
    """The worker cannot do what it was told, and starting it again will not help; the message ends in the Pod's
    status.
    """


class BatchError(Exception):
    """The runtime refused the batch; the message is for the client."""


class InvalidBatchError(BatchError):
    """The batch holds what no model of this signature takes."""
