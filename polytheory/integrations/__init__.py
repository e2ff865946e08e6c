"""Losses and advantages of the scaled room inside other people's trainers.

A trainer's hook hands over some columns and not others. What a part reads beyond them is refused in one line with the reason,
never approximated.
"""
