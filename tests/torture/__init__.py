"""Runs that take minutes and are no part of the ordinary suite: crashes at every step, and a soak."""
