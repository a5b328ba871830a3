"""Splitting: a module that can be traced becomes a list of stages."""
