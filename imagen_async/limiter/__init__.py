"""When a request may leave: limits learned from 429 responses, rates, pauses, the circuit and backoff."""
