"""The embedded gateway: first runs without a key, tests without a network, faults on demand."""
