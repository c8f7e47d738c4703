"""One figure for each stage and the one-screen summary, each in the module named after it."""
