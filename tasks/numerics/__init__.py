"""THE MATHEMATICS: arrays in, arrays out. No Prefect, no files, no clock, no network, no global seed."""
