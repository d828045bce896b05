"""Text-to-image in bulk: prompts in, verified images out, nothing lost or bought twice."""
