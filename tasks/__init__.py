"""WHAT IS RUN: one module a stage; each reads by key, calls the mathematics, and writes by key."""
