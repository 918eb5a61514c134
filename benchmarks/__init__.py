"""Throughput of recjax against its own limits and its peers; time lives here."""
