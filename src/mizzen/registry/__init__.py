"""Models as artifacts: formats, conversion to ONNX, signatures, lineage."""
