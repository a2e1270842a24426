"""How a node finds others, and knows who is there."""
