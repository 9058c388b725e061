"""Matching, measured on people whose identity is known."""
