"""Inputs → batches → forwards → readouts: owns batching, memory, devices and precision."""
