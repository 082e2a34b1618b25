"""Trips with a tip or without: rows of strings, numbers and missing values, a fitted transform, a wide-and-deep Estimator."""
