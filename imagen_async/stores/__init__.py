"""Where images are kept: memory, a local folder, or a store of your own."""
