"""What nodes know."""
