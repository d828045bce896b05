"""From the chunks of a response to verified images in a store."""
