"""Where prompts come from: files, pipes and iterables, read lazily into checked rows."""
