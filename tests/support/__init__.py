"""What tests of every kind share. Import from here: `from tests.support import poll_until`."""

from tests.support.polling import async_poll_until, poll_until

__all__ = ["async_poll_until", "poll_until"]
