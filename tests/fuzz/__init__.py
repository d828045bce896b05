"""Fuzzing: each parser of outside input has a target that compares two ways of reading the same bytes.

A target is a module of `targets` with a function ``check(data)``, which raises if the bytes are not read as promised,
and with hints for the fuzzer. It needs no fuzzer: `test_corpus` hands it every file of ``corpus/`` in the ordinary
suite. ``make fuzz`` lets atheris look for more; see CONTRIBUTING.md.
"""
