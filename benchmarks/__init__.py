"""Speed and memory of the commands, measured."""
