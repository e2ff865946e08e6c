"""Exact planning. (door)"""
