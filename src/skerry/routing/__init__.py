"""Who does a task."""
