"""Pacing on real sockets: how well does a client find a limit that only the gateway knows, and counts?"""
