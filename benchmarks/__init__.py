"""The figures that Skerry promises, measured on real processes over real sockets on loopback: `python -m benchmarks`.

The rule: what is compared is measured in the same run, in turns, because machines differ and a busy one differs from itself.
"""
