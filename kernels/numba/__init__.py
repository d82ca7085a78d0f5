"""Kernels that Numba compiles for this very processor."""
