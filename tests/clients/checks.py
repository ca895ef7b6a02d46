"""What the checks of the Python clients share: a check is a function, its name is what it claims."""

import sys
import traceback

FAILED = []


def check(claim):
    """Runs the function at once and says whether it held."""
    def run(function):
        try:
            function()
            print(f"ok {claim}", flush=True)
        except Exception as error:
            FAILED.append(claim)
            place = traceback.extract_tb(error.__traceback__)[1 if len(traceback.extract_tb(error.__traceback__)) > 1 else 0]
            text = " ".join(f"{type(error).__name__}: {error}".split())
            print(f"not ok {claim}: line {place.lineno}: {text}", flush=True)
        return function
    return run


def same(found, expected):
    assert found == expected, f"{found!r} is not {expected!r}"


def done():
    sys.exit(1 if FAILED else 0)
