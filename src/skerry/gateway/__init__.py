"""Doors for programs that speak HTTP: one app, one listener, several dialects."""
