"""Quantization: rewrites of a float graph that int8 kernels like better."""
