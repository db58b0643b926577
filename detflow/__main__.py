"""`python -m detflow`."""

from detflow.cli.main import main

if __name__ == "__main__":
    main()
