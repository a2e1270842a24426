"""How two nodes talk."""
