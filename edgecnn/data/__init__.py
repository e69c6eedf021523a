"""Data of the lab: splitting, decoding once into a cache, the embedded sample."""
