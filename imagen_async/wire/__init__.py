"""The one room that knows the gateway's field names: requests out, answers and errors in, all pure."""
