"""Simulators of the vendors' APIs, bad habits included, behind one local server (`server.py`)."""
