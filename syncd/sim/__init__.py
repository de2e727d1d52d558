"""A world to run in: ION in both dialects, a CRM, faults. Used by the demo and by tests.

What is faithful follows the vendor's documents; what nobody documents is an option.
"""
