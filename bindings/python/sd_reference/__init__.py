"""Stable Diffusion from Python: the library libsd, and traces of other implementations in its names."""
