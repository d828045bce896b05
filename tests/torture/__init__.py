"""Crashes, failing disks, and a soak; run by hand (``make torture``, ``make soak``). CI runs a sample.

::

    python -m tests.torture crash-points [--quick]
    python -m tests.torture kill-nine [--kills 200] [--jobs 2000]
    python -m tests.torture disks [NAME ...]
    python -m tests.torture all
    python -m tests.torture.soak [--jobs 200000]
"""
