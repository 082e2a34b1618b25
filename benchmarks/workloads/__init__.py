"""What is scored: rows of a seeded generator, and the Estimators that are trained on such rows. Job files name the modules."""
