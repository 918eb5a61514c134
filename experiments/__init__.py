"""Runnable experiments: each module is the record of a table or a worked case."""
