"""Which agents know each other, and what they tell each other."""
