"""Was a turn done, and what else did it change: judges, measures, and models that compare."""
