"""Promises of the journal."""
