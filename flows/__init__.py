"""WHEN: the order of the stages, the dates, and what a person fills in. No arithmetic, no file names."""
