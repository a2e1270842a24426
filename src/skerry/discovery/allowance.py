"""So much at once, and so much in the long run: what one peer may make us do.

The rule: whoever asks for more is passed over, and nobody else pays for it.
"""

from __future__ import annotations


class Allowance:
    """`most` at once, filled again by `per_s` every second."""

    __slots__ = ("_at_s", "_left", "_most", "_per_s")

    def __init__(self, most: float, per_s: float) -> None:
        self._most = most
        self._per_s = per_s
        self._left = most
        self._at_s = 0.0

    def take(self, now_s: float) -> bool:
        """Whether one more is allowed; then it is taken."""
        self._left = min(self._most, self._left + max(now_s - self._at_s, 0.0) * self._per_s)
        self._at_s = now_s
        if self._left < 1:
            return False
        self._left -= 1
        return True
