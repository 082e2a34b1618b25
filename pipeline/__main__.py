"""`python -m pipeline COMMAND`."""

from pipeline.commands import run_and_exit

if __name__ == "__main__":
    run_and_exit()
