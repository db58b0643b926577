"""`python -m detflow`."""

from detflow.cli import main

if __name__ == "__main__":
    main()
