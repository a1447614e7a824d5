"""Decision trees of every library as one structure, and that structure as ONNX."""
