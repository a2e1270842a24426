"""One process: the parts, joined over ports."""
