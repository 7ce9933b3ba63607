import pathlib
import sys

# The helper that the tests of models and encoders share lies here, not in a package.
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
