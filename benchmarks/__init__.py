"""What the library costs beside its peers, on this machine: ``python -m benchmarks`` prints the table."""
