"""Adapters that run other people's own functions on a `Batch`; each needs the package it adapts."""
