"""A file of prompts in, a folder of images out, and a journal that survives a crash."""
