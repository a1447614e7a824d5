"""Tables as Arrow IPC streams."""

import pyarrow as pa


def written(rows: pa.Table, metadata: dict[bytes, bytes] | None = None) -> bytes:
    """A table as a stream, with that metadata."""
    sink = pa.BufferOutputStream()
    table = rows.replace_schema_metadata(metadata)
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read(data: bytes) -> pa.Table:
    """The table in a stream. Raises `pyarrow.ArrowInvalid`."""
    with pa.ipc.open_stream(data) as stream:
        return stream.read_all()
