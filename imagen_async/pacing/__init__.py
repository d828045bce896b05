"""When to send: backoff, rate, pauses and budget, as arithmetic without a clock."""
