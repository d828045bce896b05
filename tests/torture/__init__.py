"""Crashes and failing disks, many of each: slower than tests, run by hand (``make torture``) and, a sample, by CI.

::

    python -m tests.torture crash-points [--quick]
    python -m tests.torture kill-nine [--kills 200] [--jobs 2000]
    python -m tests.torture disks [NAME ...]
    python -m tests.torture all
"""
