"""Encodes requests and decodes responses and errors: the only room that knows the gateway's field names. Pure."""
