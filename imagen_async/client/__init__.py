"""`ImagenClient`: jobs, attempts, retries and streams."""
