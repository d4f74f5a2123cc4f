"""The cache of one route: `stage` answers from the store or asks the stage within, the other modules help it."""
