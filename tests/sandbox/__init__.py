"""Tests of the embedded gateway."""
