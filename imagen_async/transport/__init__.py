"""HTTP by aiohttp: URLs, connections, bodies, timeouts and errors. The only room that sends and receives."""
