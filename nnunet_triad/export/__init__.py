"""Trained nnU-Net models that leave: a zip for stock nnU-Net, ONNX with a runner, TorchScript."""
