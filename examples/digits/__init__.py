"""Handwritten digits of 8 x 8 pixels: a model trained with tf.estimator, and the shards to score with it."""
