"""Other ways of scoring the same rows, each as those who use it write it, each a command of its own."""
