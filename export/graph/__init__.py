"""ONNX graphs: contracts, export, precision, validation."""
