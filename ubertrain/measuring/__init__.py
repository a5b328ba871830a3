"""Measuring: a graph becomes a chain of numbers, before the first step or beside it."""
