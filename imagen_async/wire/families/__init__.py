"""One module a model family: how a request is spelled, and at which path it is sent."""
