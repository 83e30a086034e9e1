"""The suites that `zoo eval` runs: a module or folder a kind."""
